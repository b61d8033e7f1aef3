"""``EditWorker``: edits stored codes, renders them on request, and writes their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data.png import png_bytes
from ganinv.directions.direction import Direction
from ganinv.editing import FoundStrengths
from ganinv.editing.calibrated import find_multiples
from ganinv.editing.moves import moved
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.records import RecordConfig
from ganinv.records.codes import HOLDS, write_extras
from ganinv.records.record import decode, encode
from ganinv.records.segment_moves import SegmentMove
from ganinv.records.verify import heads_of
from ganinv.store import RowError, Unit, open_store
from ganinv.store.names import quoted_id
from tasks.engine import default_device
from tasks.records import load_sources
from tasks.sources import sources_of
from tasks.steps.edit_job import EditJob, EditSpec
from tasks.steps.edit_references import References
from tasks.steps.edit_table import EXTRAS, EditColumns, Edited, edits_table, no_edits


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
