"""``fill``: fill the missing region of each image with any inversion method. Known pixels stay exactly as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data import LoadedBatch
from ganinv.data.holes import HoleReader, HolesConfig, check_holes
from ganinv.data.png import png_of_pixels
from ganinv.editing.filling import blanked, composite, known_error, levelled, seam
from ganinv.stages.method import MethodConfig, method_config
from ganinv.store import Collection, open_store
from ganinv.store.local import replace_file
from ganinv.store.names import quoted_id
from ganinv.target import Target
from tasks.engine import Pools
from tasks.steps.invert import list_images, plan_invert, run_invert
from tasks.steps.invert_job import InvertJob
from tasks.steps.invert_worker import InvertWorker

RENDERED_AT_ONCE = 16


class FillJob(InvertJob):
    """Fill the holes of ``dataset`` with ``method`` into ``latents/<name>`` (``<method>-filled`` by default).

    Args:
        masks: the missing pixels: mask files with the images' ids (a folder, glob, tar or Parquet), ``alpha`` (transparent
            pixels), or random shapes: ``strokes``, ``free-form``, ``triangle``.
        missing: the colour that marks missing pixels in mask files.
        share: for ``free-form``, smallest and largest missing share of the image.
        blend: ``smooth`` matches the filling to the image at the border of the hole; ``none`` uses the rendering unchanged.
    """

    masks: str
    missing: Literal["white", "black"] = "white"
    share: tuple[float, float] | None = None
    blend: Literal["smooth", "none"] = "smooth"

    @property
    def collection_name(self) -> str:
        return self.name or f"{method_config(self.method).name}-filled"

    @property
    def holes(self) -> HolesConfig:
        return HolesConfig(masks=self.masks, missing=self.missing, share=self.share, seed=self.seed)

    def beside(self) -> dict[str, Any]:
        return {"holes": self.holes.model_dump(mode="json"), "blend": self.blend}


def run_fill(job: FillJob, pools: Pools) -> dict[str, Any]:
    """Fill the collection. Returns counts, its URL, and the means of its measures.

    Raises:
        ConfigError: what draws them is not known, or covers no pixels. DataError: there are no masks.
    """
    check_holes(job.holes)
    dataset = list_images(job)
    plan = plan_invert(job, dataset)
    result = run_invert(job, pools, plan, dataset, FillWorker)
    rows = open_store(job.store).latents[job.collection_name].read(["known_mse", "seam", "hole_share"])
    means = {name: _mean(rows[name].to_pylist()) for name in rows.column_names}
    return result | means


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


class FillWorker(InvertWorker):
    """Shows a method the images with their holes blanked, and composites its rendering into the holes."""

    columns: ClassVar[Mapping[str, pa.DataType]] = {
        "hole_share": pa.float32(),
        "known_mse": pa.float32(),
        "seam": pa.float32(),
        "image_png": pa.binary(),
        "hole_png": pa.binary(),
    }

    def __init__(self, job: FillJob, method: MethodConfig | None = None) -> None:
        super().__init__(job, method)
        self.blend = job.blend
        self.holes = HoleReader(job.holes, self.index)
        self._images: dict[str, Tensor] = {}

    def _target(self, loaded: LoadedBatch) -> tuple[LoadedBatch, Target, list[Any]]:
        loaded, target, rows = super()._target(loaded)
        found = self.holes(target.ids, self.generator.resolution)
        rows += found.errors
        keep = [k for k, image_id in enumerate(target.ids) if image_id in set(found.ids)]
        target = target.some(keep)
        some = replace(loaded, ids=list(target.ids), sha256=[loaded.sha256[k] for k in keep], errors=[])
        if not keep:
            return some, target, rows
        self._images = dict(zip(target.ids, target.images, strict=True))
        photos = target.photos
        if photos is not None:
            size = photos.shape[2:]
            photos = blanked(photos, (F.interpolate(found.holes, size=size, mode="nearest") > 0).float())
        shown = blanked(target.images, found.holes)
        return some, replace(target, images=shown, photos=photos, masks=1 - found.holes), rows

    @torch.no_grad()
    def _beside(self, target: Target, code: Code) -> Sequence[Mapping[str, Any]]:
        assert target.masks is not None
        holes = 1 - target.masks.cpu()
        images = torch.stack([self._images[image_id] for image_id in target.ids])
        rendered = self.generator.render(code, RENDERED_AT_ONCE).cpu().float()
        filling = levelled(images, rendered, holes) if self.blend == "smooth" else rendered
        whole = composite(images, filling, holes)
        measured = {
            "hole_share": holes.mean(dim=(1, 2, 3)),
            "known_mse": known_error(images, rendered, holes),
            "seam": seam(whole, holes),
        }
        return [
            {name: _finite(values[k]) for name, values in measured.items()}
            | {"image_png": png_of_pixels(whole[k]), "hole_png": png_of_pixels((holes[k] * 255).to(torch.uint8))}
            for k in range(len(images))
        ]


def _finite(value: Tensor) -> float | None:
    return float(value) if torch.isfinite(value) else None


def write_pictures(collection: Collection, folder: Path) -> int:
    """The filled images as ``<image id>.png`` in a folder, the id quoted, so that none leads out of it. Returns how many."""
    count = 0
    for batch in collection.scan(["image_id", "image_png"], batch_size=64):
        for row in batch.to_pylist():
            replace_file(str(folder / f"{quoted_id(row['image_id'])}.png"), row["image_png"], sync=False)
            count += 1
    return count
