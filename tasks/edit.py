"""``edit``: named directions with strengths on stored inversions; images on request."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.editing import Edit
from ganinv.errors import GeneratorMismatch
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.store import Plan, RowError, Unit, open_store, table_to_code, tensor_array
from ganinv.store.names import quoted_id
from tasks.engine import Pools, default_device, drive, provenance
from tasks.pool import WorkerSpec


class EditSpec(StrictModel):
    """One edit over a range of strengths: strength s moves each direction by s times its weight.

    Args:
        directions: name -> weight: ``{smile: 1}``, or several for a combined edit.
        conditions: directions to hold still.
    """

    name: str
    directions: Mapping[str, float] = Field(min_length=1)
    strengths: tuple[float, ...] = Field((-2.0, -1.0, 0.0, 1.0, 2.0), min_length=1)
    conditions: tuple[str, ...] = ()


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
    versions = {
        name: store.directions.get(name, generator=generator.fingerprint).version
        for spec in job.edits
        for name in [*spec.directions, *spec.conditions]
    }
    config = job.model_dump(mode="json", exclude={"store", "name"})
    config |= {"latents_digest": origin["config_digest"], "direction_versions": versions}
    units = latents.plan()
    good = set(latents.read(columns=["image_id"])["image_id"].to_pylist())
    ids = [i for i in units.ids if i in good]
    size = max(len(unit.ids) for unit in units.units)
    more = {k: origin[k] for k in ("method", "distance_name") if k in origin}
    plan = Plan.of("edit", config, provenance(generator, latents=job.latents, **more), ids, size)
    return drive(store.edits[job.name], plan, WorkerSpec(EditWorker, {"job": job}), pools, "edit")


def check_generator(origin: Mapping[str, Any], fingerprint: str, name: str, what: str) -> None:
    """Refuse a collection of another generator."""
    if origin.get("generator_fingerprint") != fingerprint:
        raise GeneratorMismatch(
            f"{what} belong to generator {origin.get('generator_name')!r} "
            f"({str(origin.get('generator_fingerprint'))[:12]}), not to {name!r} ({fingerprint[:12]})"
        )


class EditWorker:
    """Edits the codes of a unit, and renders them where images are asked for."""

    def __init__(self, job: EditJob) -> None:
        self.job = job
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.collection = self.store.edits[job.name]
        self.generator = open_generator(job.generator, default_device())

    def process(self, ids: Sequence[str]) -> list[Any]:
        table = self.latents.read(ids=ids)
        order = {image_id: row for row, image_id in enumerate(table["image_id"].to_pylist())}
        rows: list[Any] = []
        for image_id in ids:
            source = table.slice(order[image_id], 1)
            rows.append((image_id, source, self._edited(source)))
        return rows

    def _edited(self, source: pa.Table) -> list[tuple[str, float, Tensor, bytes | None]]:
        """(edit, strength, w, PNG) for every edit and strength of one image."""
        want_images = self.job.images != "none"
        # Only rendering needs the tuned weights; editing needs w alone.
        code = table_to_code(source if want_images else source.select(["image_id", "w"]), self.store)
        keys, codes = [], []
        for spec in self.job.edits:
            for strength in spec.strengths:
                edit = Edit({n: weight * strength for n, weight in spec.directions.items()}, spec.conditions or None)
                codes.append(edit.apply(code, self.store, self.generator.fingerprint))
                keys.append((spec.name, strength))
        pngs: list[bytes | None] = [None] * len(codes)
        if want_images:
            w = torch.cat([c.w for c in codes])
            pngs = list(map(png_bytes, self.render_all(code, w)))
        return [(*key, c.w[0], png) for key, c, png in zip(keys, codes, pngs, strict=True)]

    def render_all(self, code: Code, w: Tensor) -> Tensor:
        """Render many latents with the extras of one image."""
        repeated = code.map(lambda t: t.expand(len(w), *t.shape[1:])).with_w(w)
        return self.generator.render(repeated.to(self.generator.device)).cpu()

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        flat = [(image_id, source, *edited) for image_id, source, all_edits in rows for edited in all_edits]
        if self.job.images == "files":
            for image_id, _, edit, strength, _, png in flat:
                path = f"{self.collection.path}/images/{quoted_id(edit)}/{strength:+.2f}/{quoted_id(image_id)}.png"
                self.collection.objects.put(path, png)
        extras = ("extras_uri", "extras_sha256", "extras_bytes")
        columns: dict[str, Any] = {
            "image_id": pa.array([row[0] for row in flat], pa.string()),
            "edit": pa.array([row[2] for row in flat], pa.string()),
            "strength": pa.array([row[3] for row in flat], pa.float32()),
            "w": tensor_array(
                torch.stack([row[4] for row in flat]).numpy()
                if flat
                else torch.empty(0, self.generator.num_ws, self.generator.w_dim).numpy(),
                dim_names=["layer", "channel"],
            ),
        }
        types = (pa.string(), pa.string(), pa.int64())
        for name, kind in zip(extras, types, strict=True):
            columns[name] = pa.array([row[1][name][0].as_py() for row in flat], kind)
        if self.job.images == "shards":
            columns["image_png"] = pa.array([row[5] for row in flat], pa.binary())
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}


def png_bytes(image: Tensor) -> bytes:
    """One image [3, R, R] in [-1, 1] as PNG."""
    array = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()
