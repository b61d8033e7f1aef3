"""A method is a list of stages in YAML. ``load_method("pti").invert(target) -> Inversion``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel, config_path, digest, load_yaml, validate
from ganinv.errors import ConfigError
from ganinv.generators.fast import compiled_steps
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import DistanceName, between
from ganinv.methods.base import Inverter
from ganinv.metrics.images import mse
from ganinv.stages.base import Context, NamesInverter
from ganinv.stages.batches import batches
from ganinv.stages.encode import Encode
from ganinv.stages.joint_segments import JointSegments
from ganinv.stages.mix import Mix
from ganinv.stages.optimize import Optimize
from ganinv.stages.precision import choose_precision
from ganinv.stages.segment import Segment
from ganinv.stages.smooth import Smooth
from ganinv.stages.tune import Tune
from ganinv.stages.variables import original_noise
from ganinv.target import Target

AnyStage = Annotated[Encode | Mix | Smooth | Optimize | Tune | Segment | JointSegments, Field(discriminator="kind")]


class MethodConfig(StrictModel):
    """One file of ``configs/methods``."""

    name: str
    summary: str
    space: str
    """The space of the codes it makes: ``w`` or ``w+``."""
    stages: tuple[AnyStage, ...] = Field(min_length=1)
    distance: DistanceName = "embedded"
    """The distance that is reported with each result."""
    batch_size: int | None = Field(None, ge=1)
    """Images processed at once; null means 16, and on a GPU as many as fit into its memory. Halved if memory runs out."""

    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Precision of features, encoders and distances during inversion. Latents, weights, optimiser state and loss sums are
    float32, and so is the rendering that the reported metrics are measured on. ``auto`` is bfloat16 where a processor
    has instructions for it (``ganinv.stages.precision``), and the plan of a run says which it was."""

    compiled: bool | None = None
    """Whether steps of optimisation and tuning are compiled (``ganinv.generators.fast``), which takes minutes once and changes
    last bits. Null: a run compiles them if it is long enough to gain by it, and its plan says so; elsewhere they are not."""

    @property
    def lanes(self) -> int:
        """Images processed at once, initially."""
        return self.batch_size or 16

    @property
    def single_pass(self) -> bool:
        """Whether it consists of inverters alone: then an image takes milliseconds, and reading and writing images matter."""
        return not any(stage.iterative for stage in self.stages)

    @property
    def of_frames(self) -> bool:
        """Whether images depend on each other: those of a folder are frames of one video, and are inverted together."""
        return any(getattr(stage, "shares", False) for stage in self.stages)

    @property
    def inverters(self) -> tuple[str, ...]:
        """Every inverter that its stages name, to start from or in a loss, once each."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in _named_inverters(stage)))

    @property
    def digest(self) -> str:
        return digest(self)


def _named_inverters(model: BaseModel) -> Iterator[str]:
    """The inverters that a model and the models in it name (``stages.base.InverterName``)."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _named_inverters(value)
        elif any(isinstance(mark, NamesInverter) for mark in info.metadata):
            yield value


@dataclass(frozen=True)
class Inversion:
    """The inverted batch, one entry per image.

    ``error[i]`` is None if the image succeeded; do not use the code's rows of failed images. ``metrics`` holds
    ``mse``, ``psnr`` and ``distance`` of the final rendering; of codes with noise maps of their own also ``mse_plain``,
    ``psnr_plain`` and ``distance_plain``, with the generator's. ``loss`` is the concatenated loss curve of all stages. ``passes``
    is w after each pass of the last stage that keeps them, [B, passes, num_ws, w_dim].
    """

    ids: list[str]
    code: Code
    error: list[str | None]
    metrics: dict[str, list[float]]
    loss: list[list[float]]
    steps: list[int]
    stop_reason: list[str]
    seconds: float = field(compare=False, default=0.0)
    passes: Tensor | None = field(compare=False, default=None)


class Method:
    """A configured method on a generator."""

    def __init__(self, cfg: MethodConfig, context: Context) -> None:
        self.precision = choose_precision(cfg.precision, context.generator.device)
        self.cfg, self.context = cfg.model_copy(update={"precision": self.precision}), context

    @property
    def photo_side(self) -> int | None:
        """Height and width of ``Target.photos``, where an inverter reads more pixels than the generator makes."""
        read = (stage.encoder for stage in self.cfg.stages if isinstance(stage, Encode))
        side = max((self.context.inverter(name).photo_side for name in read), default=0)
        return side if side > self.context.generator.resolution else None

    @property
    def reads(self) -> str:
        """The kind of pictures that it inverts: ``photo``, ``sketch`` or ``labels``."""
        read = [self.context.inverter(stage.encoder).reads for stage in self.cfg.stages if isinstance(stage, Encode)]
        return next((kind for kind in read if kind != "photo"), "photo")

    def invert(self, target: Target, start: Code | None = None, *, measure: bool = True) -> Inversion:
        """Invert images [B, 3, R, R], ``batch_size`` at once. An image's result does not depend on the others.

        Args:
            start: codes of the same images that the first stage begins from (``start: code``), such as stored ones.
            measure: render the result and compare it with the images; without, ``metrics`` is empty.

        Raises:
            ConfigError: no images, images of another size or range, or another number of codes.
        """
        generator = self.context.generator
        size = generator.resolution
        if target.images.shape[1:] != (generator.img_channels, size, size):
            raise ConfigError(
                f"generator {generator.name!r} takes images of {generator.img_channels}x{size}x{size}, "
                f"got {'x'.join(map(str, target.images.shape[1:]))}; resize them (ganinv.data.to_resolution), and where the "
                "channels differ, convert them (ganinv.generators.channels.as_channels)"
            )
        if not len(target):
            raise ConfigError("there are no images to invert: give at least one")
        # What is not finite is an error of its image alone.
        highest = float(target.images.abs().nan_to_num(0.0, 0.0).max())
        if highest > FAR_OUT:
            raise ConfigError(
                f"images are in [-1, 1], got values up to {highest:.6g}: those of bytes become images / 127.5 - 1"
            )
        target = replace(target, images=target.images.float())
        if start is not None and len(start) != len(target):
            raise ConfigError(f"there are {len(target)} images and {len(start)} codes to start from; give one for each")
        started = time.perf_counter()
        target, count = target.to(generator.device), len(target)
        code = None if start is None else start.to(generator.device)
        loss: list[list[float]] = [[] for _ in range(count)]
        steps, reason = [0] * count, [""] * count
        broken, passes = [False] * count, None
        for stage in self.cfg.stages:
            with self.context.computing_in(self.precision), compiled_steps(bool(self.cfg.compiled)):
                result = stage(target, code, self.context)
            code, passes = result.code, result.passes if result.passes is not None else passes
            loss = [a + b for a, b in zip(loss, result.loss, strict=True)]
            steps = [a + b for a, b in zip(steps, result.steps, strict=True)]
            reason = result.stop_reason
            broken = [b or r == "not_finite" for b, r in zip(broken, reason, strict=True)]
        assert code is not None
        metrics = self._measure(target, code) if measure else {}
        finite = torch.isfinite(code.w).flatten(1).all(1)
        if measure:
            finite &= torch.isfinite(metrics["mse"])
        error = [None if f and not b else NOT_FINITE for f, b in zip(finite.tolist(), broken, strict=True)]
        measured = {name: values.tolist() for name, values in metrics.items()}
        seconds = time.perf_counter() - started
        return Inversion(list(target.ids), code, error, measured, loss, steps, reason, seconds, passes)

    def _measure(self, target: Target, code: Code) -> dict[str, Tensor]:
        measured = self._compare(target, code)
        if code.noise is not None:
            plain = self._compare(target, original_noise(code, self.context.generator))
            measured |= {f"{name}_plain": values for name, values in plain.items()}
        return measured

    @torch.no_grad()
    def _compare(self, target: Target, code: Code) -> dict[str, Tensor]:
        distance = self.context.distance(self.cfg.distance)
        error, far = [], []
        for index, real in batches(len(target), self.cfg.lanes):
            images, true = self.context.generator.synthesize(code[index]), target.images[index]
            if target.masks is not None:  # as the objective: what is not to be reproduced counts nothing
                images = true + target.masks[index] * (images - true)
            error.append(mse(images, true)[:real])
            far.append(between(distance.features(images), distance.features(true))[:real])
        squared = torch.cat(error)
        return {"mse": squared, "psnr": 10 * torch.log10(4 / squared), "distance": torch.cat(far)}


FAR_OUT = 64.0
"""No picture has such values, not even a rendering by an untrained generator, but images of bytes have."""
NOT_FINITE = "the loss or the result is not finite (NaN or infinity); check the image, or lower the learning rate"


def load_method(
    name: str,
    generator: Generator,
    *,
    open_inverter: Callable[[str], Inverter] | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Method:
    """A method by name (``configs/methods/<name>.yaml``) or YAML path.

    Args:
        overrides: replace top-level keys (``batch_size=4``), or keys of a stage by its position (``stages={1: {...}}``).
    """
    return open_method(method_config(name, **overrides), generator, open_inverter=open_inverter, seed=seed)


def open_method(
    cfg: MethodConfig,
    generator: Generator,
    *,
    open_inverter: Callable[[str], Inverter] | None = None,
    seed: int = 0,
) -> Method:
    """A method by its configuration."""
    if open_inverter is None:
        from ganinv.methods.files import open_inverter as open_file

        def open_inverter(uri: str) -> Inverter:
            return open_file(uri, generator=generator)

    return Method(cfg, Context(generator, open_inverter, seed, lanes=cfg.lanes, grow=cfg.batch_size is None))


def method_config(name: str, **overrides: Any) -> MethodConfig:
    """Read and check a method's configuration."""
    path = config_path("methods", name)
    data = load_yaml(path)
    for position, changes in overrides.pop("stages", {}).items():
        try:
            data["stages"][int(position)].update(changes)
        except (IndexError, ValueError, KeyError) as error:
            raise ConfigError(
                f"method {name!r} has {len(data.get('stages', []))} stages, no stage {position!r}"
            ) from error
    return validate(MethodConfig, {**data, **overrides}, str(path.name))
