"""What a stage is: ``stage(target, code, context) -> StageResult``. Its pydantic fields are its configuration."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import Distance, DistanceName, ReducedDistance, open_distance
from ganinv.methods.base import Inverter
from ganinv.target import Target


@dataclass(frozen=True)
class NamesInverter:
    """Marks a field of a method that names an inverter."""


InverterName = Annotated[str, NamesInverter()]
"""An inverter by name (of the store, or one that ships), by folder, or by a published checkpoint."""


@dataclass
class Context:
    """What stages share: the frozen generator, inverters when a stage asks for one, distances, and the run's seed.

    ``lanes`` is how many images are worked on at once; with ``grow``, more where a GPU's memory holds them.
    ``precision`` is set by ``computing_in``.
    """

    generator: Generator
    open_inverter: Callable[[str], Inverter]
    seed: int = 0
    lanes: int = 16
    grow: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    _distances: dict[str, Distance] = field(default_factory=dict)
    _inverters: dict[str, Inverter] = field(default_factory=dict)
    _class_means: dict[int, Tensor] = field(default_factory=dict)

    @contextlib.contextmanager
    def computing_in(self, precision: Literal["float32", "bfloat16"]) -> Iterator[None]:
        """Within the block, use another precision for the generator's features, distances and inverters."""
        before, self.precision = self.precision, precision
        try:
            with self.generator.computing_in(precision):
                yield
        finally:
            self.precision = before

    def distance(self, name: DistanceName) -> Distance:
        if name not in self._distances:
            self._distances[name] = open_distance(name, self.generator)
        found = self._distances[name]
        return found if self.precision == "float32" else ReducedDistance(found, self.generator.device.type)

    def inverter(self, name: str) -> Inverter:
        """An inverter by name or URI, opened only once: a published one takes a gigabyte."""
        if name not in self._inverters:
            self._inverters[name] = self.open_inverter(name)
        return self._inverters[name]

    @torch.no_grad()
    def encode(
        self,
        name: str,
        images: Tensor,
        code: Code | None = None,
        steps: int | None = None,
        holes: Tensor | None = None,
    ) -> Code:
        """The codes that an inverter makes of images [B, C, R, R] in [-1, 1], without gradients; from ``code``, if there is one.

        Args:
            holes: [B, 1, h, w], 1 where pixels are missing, for inverters that see them.
        """
        inverter = self.inverter(name)
        with self._as_wanted() as wanted:
            return wanted(inverter(images, code, steps=steps, holes=holes))

    @torch.no_grad()
    def encode_passes(
        self,
        name: str,
        images: Tensor,
        code: Code | None = None,
        steps: int | None = None,
        holes: Tensor | None = None,
    ) -> tuple[Code, Tensor]:
        """``encode``, and w after each pass [B, passes, num_ws, w_dim]."""
        inverter = self.inverter(name)
        with self._as_wanted() as wanted:
            codes = [wanted(each) for each in inverter.refine(inverter.as_seen(images, holes), code, steps=steps)]
        return codes[-1], torch.stack([each.w for each in codes], dim=1)

    @contextlib.contextmanager
    def _as_wanted(self) -> Iterator[Callable[[Code], Code]]:
        """Within, inverters compute in ``precision``; what is given brings their codes back to float32."""
        if self.precision == "float32":
            yield lambda code: code
            return
        with torch.autocast(self.generator.device.type, torch.bfloat16):
            yield lambda code: code.map(Tensor.float)

    def mean_w(self, target: Target) -> Tensor:
        """The mean of W that images start from: [B, 1, w_dim]; for images with a class, the mean of the class."""
        if target.classes is None:
            return self.generator.w_mean.expand(len(target), 1, -1)
        labels = [int(label) for label in target.classes]
        for label in set(labels) - self._class_means.keys():
            self._class_means[label] = self.generator.class_mean(label)
        return torch.stack([self._class_means[label] for label in labels])[:, None]

    def stream(self, image_id: str, purpose: str) -> torch.Generator:
        """The random stream of one image: a function of seed, id and purpose, so no result depends on its batch."""
        key = hashlib.sha256(f"{self.seed}/{purpose}/{image_id}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


@dataclass(frozen=True)
class StageResult:
    """A better code, and how it was found, per image.

    Args:
        loss: B loss curves, the value before each step.
        steps: steps taken.
        stop_reason: ``cap`` (all steps used), ``threshold``, ``plateau``, ``not_finite`` (the loss was NaN or infinite;
            the image's code is not to be used), or ``single pass``.
        passes: w after each pass of an inverter [B, passes, num_ws, w_dim], where the stage keeps them.
    """

    code: Code
    loss: list[list[float]]
    steps: list[int]
    stop_reason: list[str]
    passes: Tensor | None = None
