"""Where images have holes: masks as files, the images' own transparency, or shapes that are drawn."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.data.dataset import Dataset, open_dataset
from ganinv.data.decode import ImageRefused, decode_image, upright
from ganinv.degradations.holes import Holes
from ganinv.degradations.registry import DEGRADATIONS
from ganinv.errors import ConfigError
from ganinv.store.plan import RowError

ALPHA = "alpha"
CODE = "mask"  # of the row of an image without a hole, or how such codes begin: mask_missing, mask_size, mask_all, mask_nothing
HALF, ANY = 128, 2  # of 255: what counts as marked in a mask of its own size, and of a pixel after it was made smaller


class HolesConfig(StrictModel):
    """What is missing of each image."""

    masks: str
    """Files (a folder, glob, tar or Parquet as a data set of images is, with the same ids); ``alpha``, what is transparent in the
    images themselves; or what is drawn: ``strokes``, ``free-form``, ``triangle``."""
    missing: Literal["white", "black"] = "white"
    """The colour of what is missing in mask files."""
    share: tuple[float, float] | None = None
    """Of ``free-form``: least and largest share of the image."""
    seed: int = Field(0, ge=0)
    """Of what is drawn."""

    @model_validator(mode="after")
    def _check(self) -> HolesConfig:
        if self.share is not None and self.masks != "free-form":
            raise ValueError(f"share is of masks: free-form, not of {self.masks!r}")
        return self

    @property
    def drawn(self) -> Holes | None:
        """What draws them, if something does."""
        if self.masks not in DEGRADATIONS:
            return None
        kind = DEGRADATIONS[self.masks]
        if not issubclass(kind, Holes):
            covering = [name for name in DEGRADATIONS if issubclass(DEGRADATIONS[name], Holes)]
            raise ConfigError(f"{self.masks!r} covers no pixels: masks may be drawn as {', '.join(covering)}")
        return kind(kind=self.masks, **({} if self.share is None else {"share": self.share}))


class Originals(Protocol):
    """The files of images by id."""

    def dataset(self, ids: Sequence[str]) -> Dataset: ...


@dataclass(frozen=True)
class FoundHoles:
    """Holes of some images, and why others have none.

    Args:
        ids: in the order that was asked for. holes: [len(ids), 1, R, R], 1 where pixels are missing, 0 elsewhere.
    """

    ids: list[str]
    holes: Tensor
    errors: list[RowError]


class HoleReader:
    """``reader(ids, resolution) -> FoundHoles``."""

    def __init__(self, cfg: HolesConfig, originals: Originals) -> None:
        self.cfg, self.originals = cfg, originals

    @cached_property
    def files(self) -> Dataset:
        """The masks, where they are files.

        Raises:
            DataError: there are none.
        """
        return open_dataset(self.cfg.masks)

    def __call__(self, ids: Sequence[str], resolution: int) -> FoundHoles:
        kept, holes, errors = [], [], []
        drawn = self.cfg.drawn
        for image_id in ids:
            try:
                if drawn is not None:
                    hole = drawn.draw(resolution, resolution, self._stream(image_id))
                else:
                    mask = self._alpha(image_id) if self.cfg.masks == ALPHA else self._file(image_id)
                    hole = at_resolution(mask, resolution)
                if not hole.any() or hole.all():
                    if hole.any():
                        raise ImageRefused(f"{CODE}_all", "the mask covers everything: nothing is left to start from")
                    raise ImageRefused(f"{CODE}_nothing", "the mask covers nothing: there is no hole to fill")
            except ImageRefused as error:
                code = error.code if error.code.startswith(CODE) else CODE
                errors.append(RowError(image_id, code, f"{image_id}: {error}", attempts=1))
            else:
                kept.append(image_id)
                holes.append(torch.from_numpy(hole.astype(np.float32))[None])
        stacked = torch.stack(holes) if holes else torch.empty(0, 1, resolution, resolution)
        return FoundHoles(kept, stacked, errors)

    def _stream(self, image_id: str) -> np.random.Generator:
        """Of one image: the same hole in every unit and on every machine."""
        key = hashlib.sha256(f"{self.cfg.seed}/holes/{image_id}".encode()).digest()
        return np.random.default_rng(int.from_bytes(key[:8], "little"))

    def _file(self, image_id: str) -> Image.Image:
        """A mask file as 0 and 255, 255 where pixels are missing."""
        if image_id not in self.files.sources:
            raise ImageRefused(f"{CODE}_missing", f"{self.cfg.masks} has no mask of this id")
        mask = decode_image(self.files.read(image_id)).convert("L")
        image = decode_image(self.originals.dataset([image_id]).read(image_id))
        if mask.size != image.size:
            raise ImageRefused(
                f"{CODE}_size",
                f"the mask has {mask.width}x{mask.height} pixels and the image {image.width}x{image.height}: they must have "
                "the same size",
            )
        white = self.cfg.missing == "white"
        return mask.point([255 if (value >= HALF) == white else 0 for value in range(256)])

    def _alpha(self, image_id: str) -> Image.Image:
        """What is transparent in the image: 255 where more than half of the colour is not its own."""
        data = self.originals.dataset([image_id]).read(image_id)
        decode_image(data)  # with its limits
        with Image.open(io.BytesIO(data)) as opened:
            if "A" not in opened.getbands() and "transparency" not in opened.info:
                raise ImageRefused(CODE, "the image has no transparency that could say what is missing")
            alpha = upright(opened.convert("RGBA")).getchannel("A")
        return alpha.point([255 if value < HALF else 0 for value in range(256)])


def check_holes(cfg: HolesConfig) -> None:
    """Refuse, before a run is planned, what no hole can come of.

    Raises:
        ConfigError: something that covers no pixels. DataError: there are no mask files.
    """
    if cfg.drawn is None and cfg.masks != ALPHA:
        open_dataset(cfg.masks)


def at_resolution(mask: Image.Image, resolution: int) -> np.ndarray:
    """A mask of 0 and 255 as images are brought to a resolution (``data.resize``): bool [R, R]. A pixel that is marked in part is
    marked."""
    side = min(mask.size)
    left, top = (mask.width - side) // 2, (mask.height - side) // 2
    square = mask.crop((left, top, left + side, top + side))
    if side != resolution:
        square = square.resize((resolution, resolution), Image.Resampling.BOX)
    return np.asarray(square) > ANY
