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
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.training.augment import jitter
from ganinv.training.step import Step

AHEAD = 4  # steps whose images are read and decoded before they are asked for


class DataConfig(StrictModel):
    """What a training learns from."""

    real_share: float = Field(0.5, ge=0, le=1)
    """Share of real images in a batch; the rest is sampled from the generator. Without a data set all are."""
    sample_psi: float = Field(0.9, gt=0, le=1)
    """Truncation of the samples."""
    flip: bool = True
    jitter: bool = True
    """Real images are shifted, scaled and lit a little differently each time (``augment.jitter``)."""
    cache_bytes: int = Field(2 * 2**30, ge=0)
    """Decoded images that are kept in memory; a data set that fits is decoded once."""


@dataclass(frozen=True)
class Batch:
    """B images of one step, real ones first.

    Args:
        images: what the inverter sees, [B, C, R, R] in [-1, 1].
        target: what it is to reconstruct; ``images``, unless something was taken away from them.
        ids: of the real ones.
        true_w: latents [G, num_ws, w_dim] of the last G images, which were generated; None when none were.
        masks: by name, [B, 1, R, R] in [0, 1].
    """

    images: Tensor
    target: Tensor
    ids: tuple[str, ...] = ()
    true_w: Tensor | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


class BatchSource(Protocol):
    """Where batches come from. A batch is a function of the step: there is nothing to store and nothing to resume."""

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
        batch_size: of all workers together.
        images: None trains on samples alone.
        held_out: positions that are never drawn.
    """

    def __init__(
        self,
        cfg: DataConfig,
        generator: Generator,
        batch_size: int,
        images: Images | None = None,
        held_out: frozenset[int] = frozenset(),
    ) -> None:
        if images is not None and len(images) <= len(held_out):
            raise ConfigError(
                f"the data set has {len(images)} images and {len(held_out)} are held out for validation: training needs at "
                "least one more; give more images, or lower validation.images"
            )
        self.cfg, self.generator, self.batch_size = cfg, generator, batch_size
        self._held_out = held_out
        self._reader = None if images is None else _Reader(images, cfg.cache_bytes)

    def real_count(self, world: int) -> int:
        """Real images of one worker's batch."""
        return round(self.batch_size // world * self.cfg.real_share) if self._reader is not None else 0

    def batch(self, step: Step) -> Batch:
        cfg, device = self.cfg, self.generator.device
        count = self.batch_size // step.world
        real_count = self.real_count(step.world)
        real, ids = self._real(step, real_count)
        if real_count == count:
            return Batch(real, real, ids)
        z = torch.randn(count - real_count, self.generator.z_dim, generator=step.stream("samples")).to(device)
        with torch.no_grad():
            w = self.generator.map_all(z, truncation_psi=cfg.sample_psi)
            fake = self.generator.synthesize(Code(w=w))
        images = torch.cat([real, fake]) if real_count else fake
        return Batch(images, images, ids, w)

    def _real(self, step: Step, count: int) -> tuple[Tensor, tuple[str, ...]]:
        if self._reader is None or not count:
            return torch.empty(0), ()
        stored, ids = self._reader.read(step.number, self._positions(step, count))
        for number in range(step.number + 1, min(step.number + 1 + AHEAD, step.total)):
            self._reader.read_ahead(number, self._positions(replace(step, number=number), count))
        real = stored.to(self.generator.device).float() / 127.5 - 1
        rng = step.stream("augment")
        if self.cfg.flip:
            flip = torch.rand(count, generator=rng) < 0.5
            real = torch.where(flip[:, None, None, None].to(real.device), real.flip(3), real)
        return (jitter(real, rng) if self.cfg.jitter else real), tuple(ids)

    def _positions(self, step: Step, count: int) -> list[int]:
        assert self._reader is not None
        size, rng = len(self._reader.images), step.stream("images")
        drawn = torch.randint(size, (count,), generator=rng).tolist()
        return [self._free(position, size) for position in drawn]

    def _free(self, position: int, size: int) -> int:
        while position in self._held_out:
            position = (position + 1) % size
        return position


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
