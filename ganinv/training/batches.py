"""Batches of a training: real images mixed with generated ones, as a function of the step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.degradations.degrade import DegradeConfig, degrade
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.training.augment import jitter
from ganinv.training.masks import INTEREST, MaskConfig, StoredMasks, filled, grown, open_masks
from ganinv.training.step import Step

AHEAD = 4  # steps whose images are read and decoded before they are asked for


class DataConfig(StrictModel):
    """The data of a training."""

    real_share: float = Field(0.5, ge=0, le=1)
    """Share of real images in a batch; the rest is sampled from the generator. Without a data set all are."""
    sample_psi: float = Field(0.9, gt=0, le=1)
    """Truncation of the samples."""
    flip: bool = True
    jitter: bool = True
    """Shift, scale and brighten real images slightly and at random each time (``augment.jitter``)."""
    degrade: DegradeConfig | None = None
    """Degradation of the images that the inverter sees; it learns to reconstruct the clean ones."""
    masks: MaskConfig | None = None
    """The region of interest of each image, for methods that compare only there."""
    cache_bytes: int = Field(2 * 2**30, ge=0)
    """Decoded images that are kept in memory; a data set that fits is decoded once."""


@dataclass(frozen=True)
class Batch:
    """B images of one step, real ones first.

    Args:
        images: what the inverter sees, [B, C, R, R] in [-1, 1].
        target: the images to reconstruct; ``images``, unless these are degraded.
        ids: of the real ones.
        true_w: latents [G, num_ws, w_dim] of the last G images, which were generated; None when none were.
        masks: by name, [B, 1, R, R] in [0, 1]: ``interest``, ``hole`` (1 where a degradation covered pixels).
        degraded: bool [B], which images are degraded; None if none is.
        unmasked: number of images without a region of interest, whose mask is full.
    """

    images: Tensor
    target: Tensor
    ids: tuple[str, ...] = ()
    true_w: Tensor | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    degraded: Tensor | None = None
    unmasked: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def photos(self) -> Tensor:
        """The real images as they are to be [N, C, R, R]; the generated ones where there are no others."""
        count = len(self.target) - (0 if self.true_w is None else len(self.true_w))
        return self.target[:count] if count else self.target


class BatchSource(Protocol):
    """A source of batches. A batch is a function of the step, so there is no state to store or resume.

    Attributes:
        images: all real ones that it may draw from.
    """

    @property
    def images(self) -> Images | None: ...

    def batch(self, step: Step) -> Batch: ...


class Images(Protocol):
    """Real images by position; usable from several threads."""

    def __len__(self) -> int: ...

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        """uint8 [N, C, R, R] and ids. A position whose image cannot be read gives the next readable one."""
        ...


class MixedBatches:
    """Real images, flipped and jittered, beside samples of the generator.

    Args:
        generator: whose samples they are; None if no batch has any.
        batch_size: of all workers together.
        images: None trains on samples alone.
        held_out: positions that are never drawn.
        device: of the batches; the generator's, where there is one.
    """

    def __init__(
        self,
        cfg: DataConfig,
        generator: Generator | None,
        batch_size: int,
        images: Images | None = None,
        held_out: frozenset[int] = frozenset(),
        device: torch.device | None = None,
    ) -> None:
        if images is not None and len(images) <= len(held_out):
            raise ConfigError(
                f"the data set has {len(images)} images and {len(held_out)} are held out for validation: training needs at "
                "least one more; give more images, or lower validation.images"
            )
        self.cfg, self.generator, self.batch_size, self.images = cfg, generator, batch_size, images
        self.device = generator.device if generator is not None else device or torch.device("cpu")
        self._held_out = held_out
        self._reader = None if images is None else _Reader(images, cfg.cache_bytes)
        self._apart = cfg.degrade is not None and cfg.degrade.unpaired
        if images is not None and self._apart:
            _check_halves(len(images), held_out)
        self._masks = None if cfg.masks is None else open_masks(cfg.masks)
        if isinstance(self._masks, StoredMasks) and (images is None or cfg.real_share < 1):
            raise ConfigError(
                "data.masks.folder has masks of real images: set data.real_share to 1 and give a data set, or take masks of a "
                "segmenter"
            )

    def real_count(self, world: int) -> int:
        """Real images of one worker's batch."""
        return round(self.batch_size // world * self.cfg.real_share) if self._reader is not None else 0

    def batch(self, step: Step) -> Batch:
        cfg, g = self.cfg, self.generator
        count = self.batch_size // step.world
        real_count = self.real_count(step.world)
        target, ids, masks = self._real(step, real_count)
        w = None
        if real_count < count:
            if g is None:
                raise ConfigError(
                    "a batch without a generator is of real images alone: give a data set, and real_share 1"
                )
            z = torch.randn(count - real_count, g.z_dim, generator=step.stream("samples")).to(self.device)
            with torch.no_grad():
                w = g.map_all(z, truncation_psi=cfg.sample_psi)
                fake = g.synthesize(Code(w=w))
            target = torch.cat([target, fake]) if real_count else fake
        return self._degraded(step, self._masked(Batch(target, target, ids, w), masks), real_count)

    def degraded(self, images: Tensor, step: Step) -> Tensor:
        """Images [B, C, R, R] as an inverter sees them: all alike, so as many are degraded as of a batch."""
        return self._degraded(step, Batch(images, images), len(images)).images

    def _masked(self, batch: Batch, masks: Tensor | None) -> Batch:
        if self._masks is None or self.cfg.masks is None:
            return batch
        if masks is None:
            masks = self._masks(batch.target, batch.ids)
        masks, empty = filled(grown(masks, self.cfg.masks.dilate))
        return replace(batch, masks={**batch.masks, INTEREST: masks}, unmasked=empty)

    def _degraded(self, step: Step, batch: Batch, real_count: int) -> Batch:
        """The last of the real images, and the last of the generated ones, lose quality."""
        cfg = self.cfg.degrade
        if cfg is None:
            return batch
        generated = len(batch) - real_count
        real, fake = (cfg.count(number) for number in (real_count, generated))
        positions = [*range(real_count - real, real_count), *range(len(batch) - fake, len(batch))]
        seeds = torch.randint(2**62, (len(positions),), generator=step.stream("degrade")).tolist()
        done = degrade(batch.images, cfg, seeds, positions)
        chosen = torch.zeros(len(batch), dtype=torch.bool, device=batch.images.device)
        chosen[positions] = True
        return replace(batch, images=done.images, masks={**batch.masks, "hole": done.holes}, degraded=chosen)

    def _real(self, step: Step, count: int) -> tuple[Tensor, tuple[str, ...], Tensor | None]:
        if self._reader is None or not count:
            return torch.empty(0), (), None
        stored, ids = self._reader.read(step.number, self._positions(step, count))
        for number in range(step.number + 1, min(step.number + 1 + AHEAD, step.total)):
            self._reader.read_ahead(number, self._positions(replace(step, number=number), count))
        real = stored.to(self.device).float() / 127.5 - 1
        masks = self._masks(real, ids) if self._masks is not None and self._masks.moves else None
        rng = step.stream("augment")
        if self.cfg.flip:
            flip = (torch.rand(count, generator=rng) < 0.5)[:, None, None, None].to(real.device)
            real = torch.where(flip, real.flip(3), real)
            masks = None if masks is None else torch.where(flip, masks.flip(3), masks)
        if self.cfg.jitter:
            real, masks = jitter(real, rng, masks=masks)
        return real, tuple(ids), masks

    def _positions(self, step: Step, count: int) -> list[int]:
        assert self._reader is not None
        size, rng = len(self._reader.images), step.stream("images")
        if self._apart and self.cfg.degrade is not None:
            drawn = torch.randint(size // 2, (count,), generator=rng).tolist()
            clean = count - self.cfg.degrade.count(count)
            return [self._free(2 * half + (k >= clean), size - size % 2, 2) for k, half in enumerate(drawn)]
        drawn = torch.randint(size, (count,), generator=rng).tolist()
        return [self._free(position, size) for position in drawn]

    def _free(self, position: int, size: int, by: int = 1) -> int:
        while position in self._held_out:
            position = (position + by) % size
        return position


def _check_halves(size: int, held_out: frozenset[int]) -> None:
    """Both halves of a data set of two domains have an image to draw."""
    for first in (0, 1):
        if not set(range(first, size - size % 2, 2)) - held_out:
            raise ConfigError(
                f"degrade.unpaired cuts the data set into two halves, and of {size} images, {len(held_out)} of them held out for "
                "validation, one has none: give more images, or lower validation.images"
            )


class _Reader:
    """Reads images a few steps ahead, and keeps decoded ones up to a number of bytes."""

    def __init__(self, images: Images, cache_bytes: int) -> None:
        self.images, self._room = images, cache_bytes
        self._kept: OrderedDict[int, tuple[Tensor, str]] = OrderedDict()
        self._lock, self._pool = Lock(), ThreadPoolExecutor(1, thread_name_prefix="images")
        self._coming: dict[int, Future[tuple[Tensor, list[str]]]] = {}

    def read(self, step: int, positions: list[int]) -> tuple[Tensor, list[str]]:
        coming = self._coming.pop(step, None)
        for late in [number for number in self._coming if number < step]:
            del self._coming[late]
        return self._load(positions) if coming is None else coming.result()

    def read_ahead(self, step: int, positions: list[int]) -> None:
        if step not in self._coming:
            self._coming[step] = self._pool.submit(self._load, positions)

    def _load(self, positions: list[int]) -> tuple[Tensor, list[str]]:
        with self._lock:
            found = {p: self._kept[p] for p in positions if p in self._kept}
        missing = [p for p in dict.fromkeys(positions) if p not in found]
        if missing:
            loaded, ids = self.images.load(missing)
            found |= {p: (image, name) for p, image, name in zip(missing, loaded, ids, strict=True)}
            self._keep({p: found[p] for p in missing})
        return torch.stack([found[p][0] for p in positions]), [found[p][1] for p in positions]

    def _keep(self, new: Mapping[int, tuple[Tensor, str]]) -> None:
        with self._lock:
            for position, (image, name) in new.items():
                self._kept[position] = (image.clone(), name)  # a view would keep its whole batch
                self._room -= image.numel()
            while self._room < 0 and self._kept:
                _, (image, _) = self._kept.popitem(last=False)
                self._room += image.numel()
