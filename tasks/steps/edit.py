"""``edit``: named directions with strengths on stored inversions; images on request."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel, reread
from ganinv.data.png import png_bytes
from ganinv.directions.direction import Direction
from ganinv.editing import Edit, FoundStrengths, Response, StrengthSearch, parse_strength
from ganinv.editing.calibrated import find_multiples, target_of
from ganinv.editing.moves import moved
from ganinv.editing.strength import scaled
from ganinv.errors import ConfigError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.records import RecordConfig
from ganinv.records.codes import HOLDS, write_extras
from ganinv.records.origin import handed_on
from ganinv.records.record import decode, encode
from ganinv.records.segment_moves import SegmentMove
from ganinv.records.verify import heads_of
from ganinv.store import Collection, Plan, RowError, Store, Unit, open_store
from ganinv.store.directions import SHIPPED_VERSION
from ganinv.store.names import quoted_id
from tasks.codes import PLACES, CodesJob
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.records import load_sources
from tasks.scores import labeller_state
from tasks.sources import sources_of
from tasks.steps.edit_references import References
from tasks.steps.edit_table import EXTRAS, EditColumns, Edited, edits_table, no_edits

UNIT_BYTES = 64 * 2**20
"""The most that the latents of one unit come to: a worker holds them twice, once as they are encoded."""


def _written(weight: Any) -> Any:
    """A strength as YAML holds it: a number, or the text of a ``Response``."""
    strength = parse_strength(weight) if isinstance(weight, str) else weight
    if strength is None:
        raise ValueError(f"expected a number, or a change of a score such as 1sd or 0.5score, got {weight!r}")
    return str(strength) if isinstance(strength, Response) else strength


Weight = Annotated[float | str, BeforeValidator(_written)]


class EditSpec(StrictModel):
    """One edit over a range of strengths: strength s moves each direction by s times its weight.

    Args:
        directions: direction -> weight: ``{smile: 1}``, or several for a combined edit. Named as in
            ``ganinv.editing.notation``: ``smile@3`` is a version, ``smile(0-3)`` and ``E(v1,0-3)`` some rows of W+. The
            weight of one of them may be the change of a score that the whole edit is to bring about, ``{smile: 1sd}`` or
            ``{yaw: 10score}``: strength s then is s times that change, and how far an image is moved for it is found by
            rendering and scoring it.
        conditions: directions along which the edit must not move.
        trust: names of imported directions to apply although their generator was not verified.
        segment: name of the only segment to edit, for codes that have segments; images without it stay unchanged.
        reference: instead of directions, an image (path or URL) whose ``attributes`` are copied by a trained ``editor``; if none
            are named, all that the editor knows. Strength s goes s times the way.
    """

    name: str
    directions: Mapping[str, Weight] = Field(default_factory=dict)
    strengths: tuple[float, ...] = Field((-2.0, -1.0, 0.0, 1.0, 2.0), min_length=1)
    conditions: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    segment: str | None = None
    reference: str | None = None
    attributes: tuple[str, ...] = ()
    editor: str = "reference-editor"

    @model_validator(mode="after")
    def _usable(self) -> EditSpec:
        if (self.reference is None) != bool(self.directions):
            raise ValueError(f"edit {self.name!r} needs either directions or a reference image")
        if self.reference is None and self.attributes:
            raise ValueError(f"edit {self.name!r} names attributes, and no reference image to take them from")
        if self.reference is not None and (self.segment or self.conditions or self.trust):
            raise ValueError(
                f"edit {self.name!r} is by a reference: it has no segment, conditions or trusted directions"
            )
        if sum(isinstance(weight, str) for weight in self.directions.values()) > 1:
            raise ValueError(f"one weight of an edit can be the change of a score, got {dict(self.directions)}")
        return self

    def edit(self, strength: float | Tensor) -> Edit:
        """The edit at one strength, or at one per sample [B], of a whole image."""
        weights = {n: parse_strength(w) if isinstance(w, str) else w for n, w in self.directions.items()}
        strengths = {n: scaled(weight, strength) for n, weight in weights.items() if weight is not None}
        return Edit(strengths, self.conditions or None, self.trust)


class EditJob(CodesJob):
    """Apply ``edits`` to ``latents/<latents>`` into ``edits/<name>``.

    Args:
        images: ``none`` stores only latents; ``files`` also writes a PNG per image, edit and strength beside the table;
            ``shards`` stores the PNG in a column of the table.
        labeller: measures scores for edits that state a change of score. search: range and effort of finding the strength.
    """

    store: str
    latents: str
    edits: tuple[EditSpec, ...] = Field(min_length=1)
    name: str = "edits"
    generator: str = EMBEDDED
    images: Literal["none", "files", "shards"] = "none"
    labeller: str = "portraits-64"
    search: StrengthSearch = StrengthSearch()

    @property
    def calibrated(self) -> bool:
        """Whether any edit states the change of a score."""
        return any(spec.edit(1.0).responses for spec in self.moves)

    @property
    def moves(self) -> tuple[EditSpec, ...]:
        """The edits along directions."""
        return tuple(spec for spec in self.edits if spec.reference is None)

    @property
    def rows_each(self) -> int:
        """Rows per image."""
        return sum(len(spec.strengths) for spec in self.edits)

    @model_validator(mode="after")
    def _unique(self) -> EditJob:
        names = [e.name for e in self.edits]
        if len(set(names)) != len(names):
            raise ValueError(f"edits must have names of their own, got {names}")
        return self


def run_edit(job: EditJob, pools: Pools) -> dict[str, Any]:
    """Fill ``edits/<name>``: one row per image, edit and strength. Returns counts and the collection's URL; with calibrated
    strengths also how many of them were ``reached``, ``out_of_reach``, ...; and which directions, for want of one in the store,
    are those that ship with the generator."""
    store, generator = open_store(job.store), open_generator(job.generator)
    latents = store.latents[job.latents]
    origin = latents.provenance()
    check_generator(origin, generator, f"latents {job.latents!r}")
    reader = job.reader(store, latents, generator).check(edits=True)
    directions = _newest(job, store, generator)
    _try_out(job, directions, generator)
    references = References(job, store, generator)
    config = job.model_dump(mode="json", exclude=PLACES | ({"store", "name"} if job.calibrated else _UNCALIBRATED))
    if job.calibrated:
        config |= labeller_state(job.labeller, open_labeller(job.labeller))
    versions = {key: direction.version for key, direction in directions.items()}
    config |= {"latents_digest": origin["config_digest"], "direction_versions": versions} | references.state()
    units = latents.plan()
    columns = ["image_id", HOLDS if HOLDS in latents.read(ids=[]).schema.names else "extras_uri"]
    rows = latents.read(columns)
    _check_segments(job, rows)
    good = set(rows["image_id"].to_pylist())
    ids = [i for i in units.ids if i in good]
    size = max(1, UNIT_BYTES // (generator.num_ws * generator.w_dim * 4 * job.rows_each))
    renders = job.images != "none" or job.calibrated
    if renders or reader.edits_change_extras(rows) or any(spec.segment for spec in job.edits):
        size = min(size, max(len(unit.ids) for unit in units.units))  # these take time, not memory
    used = sorted(f"{direction.name}@{direction.version}" for direction in directions.values())
    more = {k: origin[k] for k in ("method", "distance_name") if k in origin} | handed_on(origin) | {"directions": used}
    plan = Plan.of("edit", config, provenance(generator, latents=job.latents, **more), ids, size)
    collection = store.edits[job.name]
    spec, same = WorkerSpec(EditWorker, {"job": job}), partial(reread, EditJob)
    result = run_units(collection, plan, spec, pools, "edit", gpu=renders, grows=True, reread=same, made_of=[latents])
    shipped = sorted({d.name for d in directions.values() if d.version == SHIPPED_VERSION})
    result |= {"shipped_directions": shipped} if shipped else {}
    return result | ({"outcomes": _outcomes(collection)} if job.calibrated else {})


def _check_segments(job: EditJob, rows: pa.Table) -> None:
    """An edit of one segment is of codes that have some: where none has, it would leave every image as it is.

    Raises:
        ConfigError: none has.
    """
    wanted = next((spec for spec in job.edits if spec.segment), None)
    if wanted is None or HOLDS not in rows.schema.names:  # rows that an older version made do not say what they have
        return
    if "segments" not in pc.unique(pc.list_flatten(rows[HOLDS])).to_pylist():
        raise ConfigError(
            f"edit {wanted.name!r} is of the segment {wanted.segment!r}, and no image of latents {job.latents!r} has segments: "
            "invert with a method that makes some, or omit the segment"
        )


_UNCALIBRATED = {"store", "name", "labeller", "search"}


def _outcomes(collection: Collection) -> dict[str, int]:
    """How many of the strengths that were looked for came to what."""
    count: Counter[str] = Counter()
    for batch in collection.scan(["outcome"], batch_size=65536):
        count.update(outcome for outcome in batch["outcome"].to_pylist() if outcome)
    return dict(count)


def _newest(job: EditJob, store: Store, generator: Generator) -> dict[str, Direction]:
    """Every direction of the edits, ``smile`` or ``smile@3``, for this generator."""
    found: dict[str, Direction] = {}
    for spec in job.moves:
        for reference in spec.edit(1.0).references:
            trust = reference.name in spec.trust
            get = store.directions.get
            found[reference.stored] = get(reference.name, generator.fingerprint, reference.version, trust=trust)
    return found


def _try_out(job: EditJob, directions: Mapping[str, Direction], generator: Generator) -> None:
    """Apply every edit to the mean of W, to refuse what fits no code before any work is done."""
    labeller = open_labeller(job.labeller) if job.calibrated else None
    w = generator.w_mean.expand(1, generator.num_ws, -1)
    code = Code(w=w, z=w.new_zeros(1, generator.z_dim))
    for spec in job.moves:
        edit = spec.edit(1.0)
        if labeller is not None and edit.responses:
            target_of(edit, edit.resolve(directions, generator.fingerprint, generator.name), labeller)
            edit = replace(edit, strengths=dict.fromkeys(edit.strengths, 1.0))
        else:
            edit = spec.edit(max(spec.strengths, key=abs))
        edited = edit.apply(code, directions, generator=generator)
        if not all(torch.isfinite(moved).all() for moved in (edited.w, *(edited.styles or {}).values())):
            raise ConfigError(
                f"edit {spec.name!r} is too strong: the latent is no longer a number. Steps of 1 to 5 are usual"
            )
        try:
            generator.synthesize(edited, stop=0)
        except ValueError as error:  # layers of S that this generator does not have
            raise ConfigError(f"edit {spec.name!r} is not for generator {generator.name!r}: {error}") from error


class EditWorker:
    """Edits the codes of a unit, and renders them where images are asked for.

    Args:
        versions: of the directions, by their names in the edits; by default those of the plan.
        generator: where it is open already.
    """

    def __init__(
        self, job: EditJob, versions: Mapping[str, int | None] | None = None, generator: Generator | None = None
    ) -> None:
        self.job = job
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.collection = self.store.edits[job.name]
        self.generator = generator or open_generator(job.generator, default_device())
        self.reader = job.reader(self.store, self.latents, self.generator)
        self.sources = sources_of(self.latents, self.store) if self.reader.edits_need_images else None
        # The versions of the plan: a direction that is refitted in the meantime does not mix with them.
        if versions is None:
            versions = self.collection.plan().config["direction_versions"]
        self.directions = {
            key: self.store.directions.get(key.partition("@")[0], version=version) for key, version in versions.items()
        }
        # Found and made conditional once, not for every unit and strength.
        g = self.generator
        self.steps: dict[str, list[tuple[Direction, Any]]] = {
            spec.name: list(spec.edit(1.0).resolve(self.directions, g.fingerprint, g.name)) for spec in job.moves
        }
        self.references = References(job, self.store, g)
        self.labeller = open_labeller(job.labeller).to(self.generator.device) if job.calibrated else None
        spaces = {direction.space for direction in self.directions.values()}
        in_segments = any(spec.segment for spec in job.edits)
        rendered = job.images != "none"
        self.needs_extras = rendered or job.calibrated or "z" in spaces or in_segments
        self.columns = EditColumns("s" in spaces, in_segments, job.calibrated, rendered)
        known = self.latents.read(ids=[]).schema.names
        self.reads = [name for name in ("image_id", "w", "space", *EXTRAS, HOLDS, "stored_form") if name in known]

    def process(self, ids: Sequence[str]) -> list[Any]:
        images, rows = None, list[Any]()
        if self.sources is None:
            table = self.latents.read(self.reads, ids)
        else:
            images, table, errors = load_sources(
                self.sources, self.latents, ids, self.generator, self.reader.photo_side
            )
            rows += (replace(e, message=f"an edit of it needs its image again: {e.message}") for e in errors)
            table = table.select(self.reads)
        in_s = "space" in self.reads and "s" in pc.unique(table["space"]).to_pylist()
        # Tuned weights are large: they are read only where they are rendered, or where they hold what is to be moved.
        more = self.reader.edits_change_extras(table)
        extras = (self.needs_extras or in_s or more) and table["extras_uri"].null_count < table.num_rows
        # Extras of two images may differ in shape, and the edits of one image share its weights when they are rendered.
        together = 1 if extras or more or self.job.images != "none" else max(1, table.num_rows)
        columns = replace(self.columns, styles=self.columns.styles or in_s)
        for at in range(0, table.num_rows, together):
            after = None
            if more:
                after = _After(self, table.slice(at, 1), None if images is None else images[at : at + 1])
            rows.append(self.edited(table.slice(at, together), extras, columns, after))
        return rows

    def edited(self, source: pa.Table, extras: bool, columns: EditColumns, after: _After | None = None) -> pa.Table:
        """Every edit and strength of some rows of ``latents``, as rows of ``edits``.

        Args:
            extras: whether these images have any that are needed. after: what an edit is beside a moved code, of a single one.
        """
        code = self.code_of(source, extras)
        # As NumPy allocates it, in large pages: at this size small ones take longer to come by than to fill.
        w = torch.from_numpy(np.empty((len(code), self.job.rows_each, *code.w.shape[1:]), np.float32))
        edits = self.edit_all(code, w, after)
        if after is not None:
            edits = [after.stored(code, edit) for edit in edits]
            for k, edit in enumerate(edits):
                w[:, k] = edit.w
        if columns.png:
            images = self.generator.render(Code.cat([e.on(code) for e in edits]).to(self.generator.device)).cpu()
            edits = [replace(e, png=png_bytes(image)) for e, image in zip(edits, images, strict=True)]
        return edits_table(source, w, edits, columns)

    def code_of(self, source: pa.Table, extras: bool) -> Code:
        """The code of some rows of ``latents``, with extras or without."""
        return self.reader.codes(source if extras else source.select(["image_id", "w"]))

    def edit_all(self, code: Code, w: Tensor, after: _After | None = None) -> list[Edited]:
        """Every edit and strength of a code; the new latents are written into w [B, edits, num_ws, w_dim]."""
        edits: list[Edited] = []
        for spec in self.job.edits:
            edits += self._apply(code, spec, w[:, len(edits) : len(edits) + len(spec.strengths)], after)
        return edits

    def _apply(self, code: Code, spec: EditSpec, w: Tensor, after: _After | None) -> list[Edited]:
        """The strengths of one edit; the new latents are written into w [B, strengths, num_ws, w_dim]."""
        if spec.reference is not None:
            whole = self.references.edited(code, spec)
            for k, strength in enumerate(spec.strengths):
                torch.lerp(code.w, whole, strength, out=w[:, k])
            return [Edited(spec.name, strength, w[:, k]) for k, strength in enumerate(spec.strengths)]
        if spec.segment is not None:
            return self._in_segment(code, spec, w, after)
        plain, edits = replace(code, styles=None), []  # so that the styles of an edited code are what was added
        for k, (strength, found) in enumerate(zip(spec.strengths, self._found(code, spec, after), strict=True)):
            if found is None:
                steps = [(d, torch.as_tensor(weight) * strength) for d, weight in self.steps[spec.name]]
            else:
                given = found.edit.strengths.values()
                steps = [(d, torch.as_tensor(s)) for (d, _), s in zip(self.steps[spec.name], given, strict=True)]
            there = moved(plain, steps, self.generator, out=w[:, k])
            edits.append(Edited(spec.name, strength, there.w, there.styles or {}, found=found))
        return edits

    def _in_segment(self, code: Code, spec: EditSpec, w: Tensor, after: _After | None) -> list[Edited]:
        """As ``_apply``, of one segment: the code's own latent stays."""
        w[:] = code.w[:, None]
        if code.segments is None or spec.segment is None or spec.segment not in code.segments.names:
            return [Edited(spec.name, strength, code.w) for strength in spec.strengths]
        plain, edits = replace(code.segment(spec.segment), styles=None), []
        for strength, found in zip(spec.strengths, self._found(code, spec, after), strict=True):
            edit = spec.edit(strength) if found is None else replace(found.edit, segment=None)
            there = edit.apply(plain, self.directions, generator=self.generator)
            move = SegmentMove(spec.segment, there.w - plain.w, there.styles or {})
            edits.append(Edited(spec.name, strength, code.w, move=move, found=found))
        return edits

    def _found(self, code: Code, spec: EditSpec, after: _After | None) -> Sequence[FoundStrengths | None]:
        """Per strength, what it comes to where it is stated as the change of a score."""
        if self.labeller is None or not spec.edit(1.0).responses:
            return [None] * len(spec.strengths)
        edit = replace(spec.edit(1.0), segment=spec.segment)
        search, strengths = self.job.search, spec.strengths
        return find_multiples(edit, strengths, code, self.directions, self.generator, self.labeller, search, after)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        table = pa.concat_tables(rows) if rows else no_edits(self.generator, self.columns)
        if self.job.images == "files":
            for image_id, edit, strength, png in zip(*(table[c].to_pylist() for c in _FILE), strict=True):
                path = f"{self.collection.path}/images/{quoted_id(edit)}/{strength:+.2f}/{quoted_id(image_id)}.png"
                self.collection.objects.put(path, png)
            table = table.drop_columns(["image_png"])
        self.collection.write_part(unit.index, table, failures, {})
        return {}


class _After:
    """What an edit of one image is beside a moved code, by the rule of its inverter, and where that is stored.

    Args:
        source: the row of ``latents``. image: its photo [1, 3, R, R], where the rule looks at it.
    """

    def __init__(self, worker: EditWorker, source: pa.Table, image: Tensor | None) -> None:
        self._worker, self._image = worker, image
        known = [name for name in ("image_id", "extras_sha256", "stored_form") if name in source.schema.names]
        self._row: Mapping[str, Any] = source.select(known).to_pylist()[0]

    def __call__(self, lanes: Tensor, code: Code, edited: Code) -> Code:
        """Of several edits of the image at once: what is rendered for each."""
        image = None if self._image is None else self._image.expand(len(lanes), -1, -1, -1)
        return self._worker.reader.after_edit(image, code, edited)

    def stored(self, code: Code, edit: Edited) -> Edited:
        """The edit with extras of its own, written beside the table, where they are others than the inversion's."""
        edited = edit.on(code)
        after = self._worker.reader.after_edit(self._image, code, edited)
        if after is edited:
            return edit
        # What was edited in styles and segments is in the new object, so that the row needs nothing else.
        data = encode(after, RecordConfig(dtype="float32" if self._row.get("stored_form") == "float32" else "float16"))
        if data is None:
            return replace(edit, w=after.w, styles={}, move=None, whole=after, extras=(None, None, None))
        if hashlib.sha256(data).hexdigest() == self._row["extras_sha256"]:
            return edit
        name = f"{quoted_id(self._row['image_id'])}/{quoted_id(edit.edit)}/{edit.strength!r}"
        whole = Code(after.w, **decode(data)).with_heads(heads_of(after))
        extras = write_extras(data, name, self._worker.collection)
        return replace(edit, w=after.w, styles={}, move=None, whole=whole, extras=extras)


_FILE = ("image_id", "edit", "strength", "image_png")
