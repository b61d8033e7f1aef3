"""E2Style (Wei et al. 2022, "Improve the Efficiency and Effectiveness of StyleGAN Inversion"): a shallow encoder with cheap
heads, and further ones of the same kind that correct what the ones before have left, each trained alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.inputs import fit, pool
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.networks.blocks import PyramidBackbone
from ganinv.networks.heads import PooledHead
from ganinv.networks.irse import IRSE50
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

GRIDS = {"ir-se-50": 7, "small": 4}
"""Side of the grid that heads read: the small backbone's coarse map has 8 pixels, which 7 would divide unevenly."""


class E2StyleConfig(InverterConfig):
    """The shape of E2Style: its stages, and which rows of W+ each head gives."""

    kind: Literal["e2style"] = "e2style"
    resolution: int
    num_ws: int = Field(ge=1)
    w_dim: int
    img_channels: int = 3
    stages: int = Field(3, ge=1)
    """Encoders, one after the other, with a rendering between."""
    split: tuple[int, int, int]
    """Rows of the coarse, the medium and the fine head: 9, 5, 4 of the published 18."""
    backbone: Literal["small", "ir-se-50"] = "small"
    base_channels: int = Field(16, ge=8)
    """Width of the small backbone at full size."""
    pyramid_channels: int = Field(32, ge=8)
    """Width of the small backbone's maps."""
    input_height: int | None = None
    latent_avg_per_row: bool = False

    @model_validator(mode="after")
    def _check(self) -> E2StyleConfig:
        if sum(self.split) != self.num_ws or min(self.split) < 0:
            raise ValueError(f"split must share {self.num_ws} rows out among three heads, got {self.split}")
        return self

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        return super().for_generator(generator, {"split": split_rows(generator.num_ws), **given})


def split_rows(num_ws: int) -> tuple[int, int, int]:
    """Rows of the three heads for another number than the published 18 (9, 5, 4): in about the same shares."""
    fine, medium = max(1, round(4 * num_ws / 18)), max(1, round(5 * num_ws / 18))
    return num_ws - medium - fine, medium, fine


class E2StyleStage(nn.Module):
    """One encoder: images [B, C, *input_size] to offsets [B, num_ws, w_dim]; untrained ones are zero.

    The published trunk ends at an eighth of the size, and its heads read maps at 1/8, 1/4 and 1/2 of it (section III-A).
    """

    def __init__(self, cfg: E2StyleConfig, channels: int) -> None:
        super().__init__()
        self.backbone: nn.Module
        if cfg.backbone == "small":
            self.backbone = PyramidBackbone(cfg.resolution, channels, cfg.base_channels, cfg.pyramid_channels)
            widths: tuple[int, ...] = (cfg.pyramid_channels,) * 3
            norms: list[nn.Module] = [nn.GroupNorm(8, width) for width in widths]
        else:
            trunk = IRSE50(channels, stages=3)
            self.backbone, widths = trunk, trunk.widths
            norms = [nn.BatchNorm2d(width) for width in widths]
        self.heads = nn.ModuleList(
            PooledHead(width, GRIDS[cfg.backbone], rows, cfg.w_dim, norm)
            for width, rows, norm in zip(widths, cfg.split, norms, strict=True)
        )
        for head in self.heads:
            nn.init.zeros_(head.linear.weight)  # type: ignore[union-attr,arg-type]
            nn.init.zeros_(head.linear.bias)  # type: ignore[union-attr,arg-type]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images)
        return torch.cat([head(x) for head, x in zip(self.heads, maps, strict=True)], dim=1)


class E2Style(Inverter):
    """``e2style(images [B, 3, R, R] in [-1, 1]) -> Code`` after ``steps`` stages.

    The first stage sees the image, each further one the image beside the rendering of the code so far, and adds to it.
    """

    Config = E2StyleConfig
    cfg: E2StyleConfig
    latent_avg: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.stages = nn.ModuleList(
            E2StyleStage(cfg, cfg.img_channels * (2 if stage else 1)) for stage in range(cfg.stages)
        )
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        """The code after each stage.

        Args:
            code: None begins with the first stage; a code goes through all but that one.
            steps: stages to run.

        Raises:
            ConfigError: more stages than it has.
        """
        first = 0 if code is None else 1
        last = len(self.stages) if steps is None else first + steps
        if last > len(self.stages):
            raise ConfigError(
                f"this e2style has {len(self.stages)} stages{' of which a given code skips the first' if first else ''}: "
                f"steps can be at most {len(self.stages) - first}, got {steps}"
            )
        images = fit(images, self.input_size)
        for k in range(first, last):
            before = Code(w=code.w.detach()) if detach and code is not None else code
            code = self.correct(k, images, before)
            yield code

    def correct(self, stage: int, images: Tensor, code: Code | None) -> Code:
        """The code that a stage makes of the one before it; the first stage takes none. Images have ``input_size``."""
        if code is None:
            return Code(w=self.stages[stage](images) + self.latent_avg)
        rendering = pool(self.generator.synthesize(code), self.input_size)
        return Code(w=code.w + self.stages[stage](torch.cat([images, rendering], dim=1)))


class E2StyleRecipe(InverterRecipe):
    """Training E2Style (section III-C): the stages one after the other, each on the frozen ones before it, by the losses of
    its own rendering alone.

    The published loss adds the cosines of a face network's and a face parser's features at several depths
    (``losses.layered``); without these networks what is left is ReStyle with weights of its own for each pass.
    """

    kind: Literal["e2style"] = "e2style"
    shares: tuple[float, ...] = (0.44, 0.28, 0.28)
    """Of the steps, for each stage. The learning rates run through ``schedule`` in each of them."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        inverter = new_inverter(E2Style, self, generator, needed, start)
        if len(self.shares) != inverter.cfg.stages or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ConfigError(
                f"shares must say for each of the {inverter.cfg.stages} stages which part of the steps it gets, got "
                f"{self.shares}"
            )
        return E2StyleLearner(self, inverter)

    def stage_at(self, step: int, total: int) -> tuple[int, int, int]:
        """Of a step: the stage that it trains, how many steps this one has had, and how many it gets."""
        ends = [round(total * done / sum(self.shares)) for done in accumulate(self.shares)]
        stage = next((k for k, end in enumerate(ends) if step < end), len(ends) - 1)
        first = ends[stage - 1] if stage else 0
        return stage, step - first, max(1, ends[stage] - first)

    def rate(self, step: int, total: int) -> float:
        _, done, steps = self.stage_at(step, total)
        return self.schedule(done, steps)


class E2StyleLearner(InverterLearner[E2Style, E2StyleRecipe]):
    """One step of E2Style's training: all stages up to the one that learns, whose code alone is measured."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        learning, _, _ = self.recipe.stage_at(step.number, step.total)
        for k, stage in enumerate(self.network.stages):
            stage.train(k == learning)  # frozen statistics too
        images, code = fit(batch.images, self.network.input_size), None
        for k in range(learning + 1):
            with torch.set_grad_enabled(k == learning):
                code = self.network.correct(k, images, code)
        assert code is not None
        terms = self.losses(self.generator.synthesize(code), batch, code)
        yield {**terms, "stage": (0.0, code.w.new_tensor(float(learning)))}
