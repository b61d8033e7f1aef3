"""PadInv (Bai et al. 2022, "High-fidelity GAN Inversion with Padding Space"): W+, and what stands around the convolutions.

Zeros around its inputs are all that tells a convolution where it is. Other values there, and another constant, carry the
layout of an image (contour, pose, background), while W+ carries its style.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.padding import centre, ring_of
from ganinv.generators.sites import site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.inputs import fit
from ganinv.methods.learning import new_inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.rows import FEATURES
from ganinv.networks.blocks import ResidualBlock
from ganinv.networks.irse import ResidualUnit
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

MOST = 4
"""Layers that are padded by default: up to 32 pixels of 1024, as published."""


class PadInvConfig(InverterConfig):
    """The shape of PadInv: pSp's encoder, and which layers get a ring."""

    kind: Literal["padinv"] = "padinv"
    encoder: PspConfig
    num_ws: int = Field(ge=1)
    """Rows of the code; heads beyond these are there and not used (published encoders of 256-pixel generators have 18)."""
    const_channels: int = Field(ge=1)
    ring_channels: tuple[int, ...] = Field(min_length=1)
    """Input channels of the second convolutions of 4, 8, 16, ... pixels: one for each layer that gets a ring."""
    relative: bool = True
    """Constant and rings begin at the generator's own, and are in units of its features there. The published network gives
    them as they are."""

    @model_validator(mode="after")
    def _check(self) -> PadInvConfig:
        if self.encoder.num_ws < self.num_ws:
            raise ValueError(f"an encoder of {self.encoder.num_ws} heads cannot give {self.num_ws} rows of W+")
        if not self.relative and self.const_channels != FEATURES:
            raise ValueError(f"without relative the constant has the {FEATURES} channels of the maps it is cut from")
        return self

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """Rings for the first layers up to a quarter of the output's side, at most four; ``rings`` says how many.

        Raises:
            ConfigError: more rings than the generator has layers for.
        """
        given = dict(given)
        levels = len(generator.cfg.channels)
        rings = int(given.pop("rings", max(1, min(MOST, levels - 2))))
        if not 1 <= rings <= levels:
            raise ConfigError(
                f"{rings} rings: generator {generator.name!r} of {generator.resolution} pixels has layers for 1 to {levels}"
            )
        shape = {
            "num_ws": generator.num_ws,
            "const_channels": generator.cfg.channels[0],
            "ring_channels": generator.cfg.channels[:rings],
        }
        encoder = PspConfig.for_generator(generator, given.get("encoder") or {})
        return {**shape, **given, "encoder": encoder}


class PadInv(Inverter):
    """``padinv(images [B, C, R, R] in [-1, 1]) -> Code`` in W+, with ``const`` and ``padding`` of the image's own.

    All rings are cut from one map, a pixel wider on each side than the largest padded layer (section 3.2). An edit moves W+
    and keeps them; ``editing.padding`` exchanges them between images.
    """

    Config = PadInvConfig
    cfg: PadInvConfig
    units: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.encoder = Psp(cfg.encoder)
        self.num_ws, self.w_dim = cfg.num_ws, cfg.encoder.w_dim
        small = cfg.encoder.backbone == "small"
        width = cfg.encoder.pyramid_channels if small else FEATURES
        units = [ResidualBlock(width, width) if small else ResidualUnit(width, width) for _ in range(2)]
        self.extractor = nn.Sequential(*units)
        self.ring_heads = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in cfg.ring_channels)
        self.const_head: nn.Module = nn.Identity()
        if cfg.relative:
            self.const_head = nn.Conv2d(width, cfg.const_channels, 1)
            self.register_buffer("units", torch.ones(1 + len(cfg.ring_channels)))
            for head in (self.const_head, *self.ring_heads):
                nn.init.zeros_(head.get_parameter("weight"))
                nn.init.zeros_(head.get_parameter("bias"))

    def bind(self, generator: Generator) -> None:
        super().bind(generator)
        cfg, channels = self.cfg, generator.cfg.channels
        if (cfg.const_channels, *cfg.ring_channels) != (channels[0], *channels[: len(cfg.ring_channels)]):
            raise GeneratorMismatch(
                f"this padinv gives a constant of {cfg.const_channels} and rings of {list(cfg.ring_channels)} channels; "
                f"generator {generator.name!r} has layers of {list(channels)}: it belongs to another generator"
            )

    @torch.no_grad()
    def begin(self) -> None:
        """Measure the size of the modulated features that each ring stands around."""
        if not self.cfg.relative:
            return
        g = self.generator
        styles = dict(zip(g.style_names, g.styles(g.w_mean.expand(1, g.num_ws, -1)), strict=True))
        const = g.synthesis.const.square().mean(dim=(1, 2)).sqrt()
        self.units[0] = const.square().mean().sqrt()
        for i in range(len(self.cfg.ring_channels)):
            size = const if i == 0 else site_statistics(f"act[{2 * i - 1}]", g)[1]
            self.units[i + 1] = (size * styles[f"convs.{2 * i}"][0]).square().mean().sqrt()

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        maps = self.encoder.backbone(fit(images, self.encoder.input_size))
        w = self.encoder.rows(maps)[:, : self.num_ws] + _rows(self.encoder.latent_avg, self.num_ws)
        const, padding = self.padding(maps[1])
        yield Code(w=w, const=const, padding=padding)

    def padding(self, medium: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """The medium map of the backbone to the constant [B, C, 4, 4] and the rings {k: [B, C, 4 (r + 1)]}."""
        largest = 2 * 2 ** len(self.ring_heads) + 2
        x = enlarged(self.extractor(medium), largest)
        rings = {}
        for i, head in enumerate(self.ring_heads):
            ring = ring_of(head(centre(x, 4 * 2**i + 2)))
            rings[2 * i] = ring * self.units[i + 1] if self.cfg.relative else ring
        const = self.const_head(centre(x, 4))
        if self.cfg.relative:
            const = self.generator.synthesis.const + self.units[0] * const
        return const, rings


def enlarged(x: Tensor, side: int) -> Tensor:
    """Square maps [B, C, r, r] to [B, C, side, side], bicubic, corners on corners: ``F.interpolate`` as two products of matrices,
    in an eighth of its time on a CPU."""
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)[None, None]
    taps = F.interpolate(unit, size=(side, x.shape[-1]), mode="bicubic", align_corners=True)[0, 0]
    return taps @ (x @ taps.t())


def _rows(latent_avg: Tensor, count: int) -> Tensor:
    return latent_avg[:count] if latent_avg.ndim == 2 else latent_avg


class PadInvRecipe(AdversarialRecipe):
    """Training PadInv (section 3.3): pSp's losses on the rendering, and a discriminator's for scenes; none touches constant and
    rings directly."""

    kind: Literal["padinv"] = "padinv"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return PadInvLearner(self, new_inverter(PadInv, self, generator, needed, start))


class PadInvLearner(AdversarialLearner[PadInv, PadInvRecipe]):
    """One step of PadInv's training."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        code = self.network(batch.images)
        rendered = self.generator.synthesize(code)
        yield {**self.losses(rendered, batch, code), **self.adversary.terms(rendered, batch, step)}
