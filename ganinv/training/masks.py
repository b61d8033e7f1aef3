"""Masks of the images of a training: the region of interest, from a segmenter or from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import fsspec
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ganinv.labels.segmenters import Segmenter

INTEREST = "interest"
"""The name of these masks in a batch."""
LEAST = 0.005  # share of the image; a smaller mask counts as no mask: the segmenter found nothing


class MaskConfig(StrictModel):
    """Which part of an image matters. Exactly one of ``segmenter`` and ``folder``."""

    segmenter: str | None = None
    """A name of ``configs/segmenters``, or a YAML file; it sees the clean images of each batch."""
    regions: tuple[str, ...] = Field(("skin", "eyebrow", "eye", "nose", "mouth", "ear", "hair"), min_length=1)
    """The segmenter's regions that are of interest."""
    folder: str | None = None
    """Or masks as files, `<image id>.png`, white where the image is of interest (path or fsspec URL). Generated images have
    none, so `real_share` must be 1."""
    dilate: float = Field(0.0, ge=0, le=0.5)
    """Masks grow by so much of the side."""

    @model_validator(mode="after")
    def _one(self) -> MaskConfig:
        if (self.segmenter is None) == (self.folder is None):
            raise ValueError("give either segmenter or folder")
        return self


class Masks(Protocol):
    """Where masks come from."""

    moves: bool
    """Masks belong to the images as stored, so what moves an image must move its mask."""

    def __call__(self, images: Tensor, ids: Sequence[str]) -> Tensor:
        """Masks [B, 1, R, R] in [0, 1] of images [B, C, R, R] in [-1, 1]; an empty one where nothing was found."""
        ...


class SegmentedMasks:
    """Masks that a segmenter makes of the images as they are seen."""

    moves = False

    def __init__(self, cfg: MaskConfig, segmenter: Segmenter) -> None:
        unknown = [name for name in cfg.regions if name not in segmenter.regions]
        if unknown:
            raise ConfigError(
                f"segmenter {segmenter.name!r} has no region {unknown[0]!r}: data.masks.regions may be "
                f"{', '.join(segmenter.regions)}"
            )
        self.segmenter = segmenter
        self.wanted = torch.tensor([segmenter.regions.index(name) for name in cfg.regions])

    def __call__(self, images: Tensor, ids: Sequence[str]) -> Tensor:
        with torch.no_grad():
            found = self.segmenter(images)
        return torch.isin(found, self.wanted.to(found.device))[:, None].float().to(images.device)


class StoredMasks:
    """Masks as files beside the images."""

    moves = True

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/")
        self._fs, self._path = fsspec.url_to_fs(self.folder)
        try:
            listed = self._fs.ls(self._path, detail=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"no folder of masks at {folder}: set data.masks.folder to one with <image id>.png"
            ) from error
        self.names = {str(name).rpartition("/")[2] for name in listed}

    def check(self, ids: Sequence[str]) -> None:
        """Refuse a data set of which images have no mask.

        Raises:
            DataError: masks are missing; the message counts them.
        """
        missing = [one for one in ids if f"{one}.png" not in self.names]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(ids)} images have no mask in {self.folder}, the first is {missing[0]}.png: add the "
                "masks, choose images with --where, or take data.masks.segmenter"
            )

    def __call__(self, images: Tensor, ids: Sequence[str]) -> Tensor:
        return torch.stack([self._load(one, images.shape[2]) for one in ids]).to(images.device)

    def _load(self, image_id: str, side: int) -> Tensor:
        where = f"{self.folder}/{image_id}.png"
        try:
            with self._fs.open(f"{self._path}/{image_id}.png", "rb") as file, Image.open(file) as picture:
                if picture.width != picture.height:
                    raise DataError(
                        f"mask {where} is {picture.width}x{picture.height}; images are brought to squares of {side} pixels, so "
                        "a mask must be square (of any size)"
                    )
                grey = picture.convert("L").resize((side, side), Image.Resampling.BILINEAR)
        except FileNotFoundError as error:
            raise DataError(f"image {image_id} has no mask: expected {where}") from error
        except UnidentifiedImageError as error:
            raise DataError(f"mask {where} is not an image that can be read") from error
        return torch.from_numpy(np.asarray(grey, np.float32) / 255)[None]


def open_masks(cfg: MaskConfig) -> SegmentedMasks | StoredMasks:
    """The masks of a configuration.

    Raises:
        ConfigError: no such segmenter, or a region that it does not have. DataError: no such folder.
    """
    if cfg.segmenter is not None:
        from ganinv.labels.segmenters import open_segmenter

        return SegmentedMasks(cfg, open_segmenter(cfg.segmenter))
    assert cfg.folder is not None
    return StoredMasks(cfg.folder)


def grown(masks: Tensor, share: float) -> Tensor:
    """Masks [B, 1, R, R] made larger by ``share`` of the side."""
    pixels = round(share * masks.shape[-1])
    return F.max_pool2d(masks, 2 * pixels + 1, stride=1, padding=pixels) if pixels else masks


def filled(masks: Tensor) -> tuple[Tensor, int]:
    """Empty masks become full ones: such an image is trained on as a whole. Returns how many those were, too."""
    empty = masks.mean(dim=(1, 2, 3)) < LEAST
    return torch.where(empty[:, None, None, None], torch.ones_like(masks), masks), int(empty.sum())
