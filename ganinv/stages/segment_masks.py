"""Masks of the segments of images: the target's own, a grid, or a segmenter's regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.channels import as_rgb
from ganinv.labels.segmenters import open_segmenter
from ganinv.target import Target


class MaskSource(StrictModel):
    """Where masks come from: a segmenter, a grid, or, with neither, ``Target.segments``."""

    segmenter: str | None = None
    """A name of ``configs/segmenters`` (``aligned-face``: a template, with no network) or the path of a YAML file."""
    grid: tuple[int, int] | None = None
    """Rows and columns of equal rectangles."""
    merge: Mapping[str, tuple[str, ...]] | None = None
    """Segment -> the regions it is made of; regions in none of them are not a segment. None makes each region one."""
    feather: int = Field(0, ge=0)
    """Pixels over which a mask fades to either side of its edge: hard edges show as seams. Sums stay what they are."""

    @model_validator(mode="after")
    def _one_source(self) -> MaskSource:
        if self.segmenter is not None and self.grid is not None:
            raise ValueError("give a segmenter or a grid, not both")
        if self.grid is not None and min(self.grid) < 1:
            raise ValueError(f"a grid has at least one row and one column, got {self.grid}")
        return self

    def of(self, target: Target) -> dict[str, Tensor]:
        """Masks of the images of a target: name -> [B, 1, R, R] in [0, 1].

        Raises:
            ConfigError: the target has none of its own, or not the regions that are merged.
        """
        found = self._merged(self._regions(target))
        if not self.feather:
            return found
        # Means of neighbours, of those inside the image only, so that what sums to 1 still does.
        size = 2 * self.feather + 1
        return {n: F.avg_pool2d(m, size, 1, self.feather, count_include_pad=False) for n, m in found.items()}

    def check_regions(self, regions: Iterable[str]) -> None:
        """Raises ConfigError for regions that are to be merged and not among these."""
        known, wanted = list(regions), {name for parts in (self.merge or {}).values() for name in parts}
        if unknown := sorted(wanted.difference(known)):
            raise ConfigError(f"no regions {unknown} to merge; there are: {', '.join(known)}")

    def _regions(self, target: Target) -> Mapping[str, Tensor]:
        images = target.images
        if self.grid is not None:
            rows, columns = self.grid
            y = torch.arange(images.shape[2], device=images.device) * rows // images.shape[2]
            x = torch.arange(images.shape[3], device=images.device) * columns // images.shape[3]
            cells = {f"{r}-{c}": (y == r)[:, None] & (x == c) for r in range(rows) for c in range(columns)}
            return {name: cell.to(images.dtype).expand(len(images), 1, -1, -1) for name, cell in cells.items()}
        if self.segmenter is not None:
            segmenter = open_segmenter(self.segmenter)
            regions = segmenter(as_rgb(images))[:, None]
            return {name: (regions == k).to(images.dtype) for k, name in enumerate(segmenter.regions)}
        if not target.segments:
            raise ConfigError(
                "there are no masks: give the stage a segmenter (masks: {segmenter: aligned-face}) or a grid "
                "(masks: {grid: [2, 2]}), or the target segments of its own"
            )
        return target.segments

    def _merged(self, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.merge is None:
            return dict(regions)
        self.check_regions(regions)
        return {
            segment: torch.stack([regions[name] for name in parts]).sum(0).clamp(0, 1)
            for segment, parts in self.merge.items()
        }


def dilate(masks: Tensor, size: int) -> Tensor:
    """Grey dilation of masks [B, 1, R, R] by a box of ``size`` (odd) pixels."""
    return F.max_pool2d(masks, size, stride=1, padding=size // 2)
