"""``edit``: named directions with strengths on stored inversions; images on request."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.editing.moves import add_styles
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.store import (
    Plan,
    RowError,
    Store,
    Unit,
    open_store,
    segment_moves,
    style_offsets,
    table_to_code,
    tensor_array,
)
from ganinv.store.names import quoted_id
from ganinv.store.segment_moves import SegmentMove
from tasks.engine import Pools, default_device, drive, provenance
from tasks.pool import WorkerSpec


class EditSpec(StrictModel):
    """One edit over a range of strengths: strength s moves each direction by s times its weight.

    Args:
        directions: direction -> weight: ``{smile: 1}``, or several for a combined edit. Named as in
            ``ganinv.editing.notation``: ``smile@3`` is a version, ``smile(0-3)`` and ``E(v1,0-3)`` some rows of W+.
        conditions: directions to hold still.
        trust: names of imported directions whose generator was only stated, to be applied all the same.
        segment: the one segment, by name, that is edited, of codes that have segments; images without it stay as they are.
    """

    name: str
    directions: Mapping[str, float] = Field(min_length=1)
    strengths: tuple[float, ...] = Field((-2.0, -1.0, 0.0, 1.0, 2.0), min_length=1)
    conditions: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    segment: str | None = None

    def edit(self, strength: float) -> Edit:
        """The edit at one strength, of a whole image."""
        return Edit(
            {n: weight * strength for n, weight in self.directions.items()}, self.conditions or None, self.trust
        )


class EditJob(StrictModel):
    """Apply ``edits`` to ``latents/<latents>`` into ``edits/<name>``.

    Args:
        images: ``none`` stores latents only; ``files`` writes a PNG per image, edit and strength beside the table;
            ``shards`` puts the PNG into a column of the table.
    """

    store: str
    latents: str
    edits: tuple[EditSpec, ...] = Field(min_length=1)
    name: str = "edits"
    generator: str = EMBEDDED
    images: Literal["none", "files", "shards"] = "none"

    @model_validator(mode="after")
    def _unique(self) -> EditJob:
        names = [e.name for e in self.edits]
        if len(set(names)) != len(names):
            raise ValueError(f"edits must have names of their own, got {names}")
        return self


def run_edit(job: EditJob, pools: Pools) -> dict[str, Any]:
    """Fill ``edits/<name>``: one row per image, edit and strength."""
    store, generator = open_store(job.store), open_generator(job.generator)
    latents = store.latents[job.latents]
    origin = latents.provenance()
    check_generator(origin, generator.fingerprint, generator.name, f"latents {job.latents!r}")
    directions = _newest(job, store, generator)
    _try_out(job, directions, generator)
    config = job.model_dump(mode="json", exclude={"store", "name"})
    for spec in config["edits"]:  # so that plans made before there was such a thing are still the same
        for name in ("trust", "segment"):
            if not spec[name]:
                del spec[name]
    versions = {key: direction.version for key, direction in directions.items()}
    config |= {"latents_digest": origin["config_digest"], "direction_versions": versions}
    units = latents.plan()
    good = set(latents.read(columns=["image_id"])["image_id"].to_pylist())
    ids = [i for i in units.ids if i in good]
    size = max(len(unit.ids) for unit in units.units)
    more = {k: origin[k] for k in ("method", "distance_name") if k in origin}
    plan = Plan.of("edit", config, provenance(generator, latents=job.latents, **more), ids, size)
    return drive(store.edits[job.name], plan, WorkerSpec(EditWorker, {"job": job}), pools, "edit")


def _newest(job: EditJob, store: Store, generator: Generator) -> dict[str, Direction]:
    """Every direction of the edits, ``smile`` or ``smile@3``, for this generator."""
    found: dict[str, Direction] = {}
    for spec in job.edits:
        for reference in spec.edit(1.0).references:
            trust = reference.name in spec.trust
            get = store.directions.get
            found[reference.stored] = get(reference.name, generator.fingerprint, reference.version, trust=trust)
    return found


def _try_out(job: EditJob, directions: Mapping[str, Direction], generator: Generator) -> None:
    """Apply every edit to the mean of W, to refuse what fits no code before any work is done."""
    w = generator.w_mean.expand(1, generator.num_ws, -1)
    code = Code(w=w, z=w.new_zeros(1, generator.z_dim))
    for spec in job.edits:
        edited = spec.edit(1.0).apply(code, directions, generator=generator)
        try:
            generator.synthesize(edited, stop=0)
        except ValueError as error:  # layers of S that this generator does not have
            raise ConfigError(f"edit {spec.name!r} is not for generator {generator.name!r}: {error}") from error


def check_generator(origin: Mapping[str, Any], fingerprint: str, name: str, what: str) -> None:
    """Refuse a collection of another generator."""
    if origin.get("generator_fingerprint") != fingerprint:
        raise GeneratorMismatch(
            f"{what} belong to generator {origin.get('generator_name')!r} "
            f"({str(origin.get('generator_fingerprint'))[:12]}), not to {name!r} ({fingerprint[:12]})"
        )


@dataclass(frozen=True)
class _Edited:
    """One edit at one strength of one image, as it is stored: w [1, num_ws, w_dim], and what it adds to styles (layer name
    -> [1, C]) and moves in one segment."""

    edit: str
    strength: float
    w: Tensor
    styles: Mapping[str, Tensor] = field(default_factory=dict)
    move: SegmentMove | None = None
    png: bytes | None = None

    def on(self, code: Code) -> Code:
        """The edited code of the image."""
        code = add_styles(code.with_w(self.w), self.styles)
        return code if self.move is None else self.move.on(code)


class EditWorker:
    """Edits the codes of a unit, and renders them where images are asked for."""

    def __init__(self, job: EditJob) -> None:
        self.job = job
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.collection = self.store.edits[job.name]
        self.generator = open_generator(job.generator, default_device())
        # The versions of the plan: a direction that is refitted in the meantime does not mix with them.
        versions = self.collection.plan().config["direction_versions"]
        self.directions = {
            key: self.store.directions.get(key.partition("@")[0], version=version) for key, version in versions.items()
        }
        spaces = {direction.space for direction in self.directions.values()}
        names = self.latents.read(ids=[]).schema.names
        inverted = set(self.latents.read(columns=["space"])["space"].to_pylist()) if "space" in names else set()
        self.moves_styles = "s" in spaces | inverted
        self.in_segments = any(spec.segment for spec in job.edits)
        self.needs_extras = self.job.images != "none" or "z" in spaces or "s" in inverted or self.in_segments

    def process(self, ids: Sequence[str]) -> list[Any]:
        table = self.latents.read(ids=ids)
        order = {image_id: row for row, image_id in enumerate(table["image_id"].to_pylist())}
        rows: list[Any] = []
        for image_id in ids:
            source = table.slice(order[image_id], 1)
            rows.append((image_id, source, self._edited(source)))
        return rows

    def _edited(self, source: pa.Table) -> list[_Edited]:
        """Every edit and strength of one image."""
        # Tuned weights are large: they are read only where they are rendered, or where they hold what is to be moved.
        code = table_to_code(source if self.needs_extras else source.select(["image_id", "w"]), self.store)
        edits = [self._apply(code, spec, strength) for spec in self.job.edits for strength in spec.strengths]
        if self.job.images == "none":
            return edits
        images = self.generator.render(Code.cat([e.on(code) for e in edits]).to(self.generator.device)).cpu()
        return [replace(e, png=png_bytes(image)) for e, image in zip(edits, images, strict=True)]

    def _apply(self, code: Code, spec: EditSpec, strength: float) -> _Edited:
        one = spec.edit(strength)
        if spec.segment is None:
            plain = replace(code, styles=None)  # so that the styles of an edited code are what was added
            edited = one.apply(plain, self.directions, generator=self.generator)
            return _Edited(spec.name, strength, edited.w, edited.styles or {})
        if code.segments is None or spec.segment not in code.segments.names:
            return _Edited(spec.name, strength, code.w)
        plain = replace(code.segment(spec.segment), styles=None)
        edited = one.apply(plain, self.directions, generator=self.generator)
        move = SegmentMove(spec.segment, edited.w - plain.w, edited.styles or {})
        return _Edited(spec.name, strength, code.w, move=move)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        flat = [(image_id, source, edited) for image_id, source, all_edits in rows for edited in all_edits]
        if self.job.images == "files":
            for image_id, _, e in flat:
                path = f"{self.collection.path}/images/{quoted_id(e.edit)}/{e.strength:+.2f}/{quoted_id(image_id)}.png"
                self.collection.objects.put(path, e.png)
        extras = ("extras_uri", "extras_sha256", "extras_bytes")
        columns: dict[str, Any] = {
            "image_id": pa.array([row[0] for row in flat], pa.string()),
            "edit": pa.array([e.edit for _, _, e in flat], pa.string()),
            "strength": pa.array([e.strength for _, _, e in flat], pa.float32()),
            "w": tensor_array(
                torch.cat([e.w for _, _, e in flat]).numpy()
                if flat
                else torch.empty(0, self.generator.num_ws, self.generator.w_dim).numpy(),
                dim_names=["layer", "channel"],
            ),
        }
        types = (pa.string(), pa.string(), pa.int64())
        for name, kind in zip(extras, types, strict=True):
            columns[name] = pa.array([row[1][name][0].as_py() for row in flat], kind)
        if self.in_segments:
            columns[segment_moves.COLUMN] = segment_moves.moves_array([e.move for _, _, e in flat])
        if self.moves_styles:
            columns[style_offsets.COLUMN] = style_offsets.offsets_array([e.styles for _, _, e in flat])
        if self.job.images == "shards":
            columns["image_png"] = pa.array([e.png for _, _, e in flat], pa.binary())
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}


def png_bytes(image: Tensor) -> bytes:
    """One image [3, R, R] in [-1, 1] as PNG."""
    array = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
