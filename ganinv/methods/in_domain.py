"""The domain-guided encoder of In-Domain GAN inversion (Zhu et al. 2020, section 3.1), in its PyTorch release's form or on this
project's small backbone, and its training beside a discriminator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.methods.learning import new_inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

SLOPE = 0.2  # of all leaky ReLUs


class InDomainConfig(InverterConfig):
    """The shape of a domain-guided encoder."""

    kind: Literal["in-domain"] = "in-domain"

    resolution: int = 256
    w_dim: int = 512
    img_channels: int = 3
    base_channels: int = 64
    max_channels: int = 1024
    batch_norm: bool = True
    """Normalise after every convolution, and the code at the end (the published models do, at batches of 128)."""
    backbone: Literal["published", "small"] = "published"
    """``small`` is this project's own, with a head per row as pSp's; of ``max_channels`` and ``batch_norm`` it knows nothing."""
    pyramid_channels: int = Field(96, ge=8)
    """Width of the small backbone's maps."""
    head_channels: int = Field(48, ge=8)
    """Width within its heads."""

    @model_validator(mode="after")
    def _check(self) -> InDomainConfig:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two of at least 8, got {self.resolution}")
        return self

    @property
    def levels(self) -> int:
        """Number of sizes that are convolved: full resolution (the stem), half of it, and so on down to 4x4."""
        return self.resolution.bit_length() - 2

    @property
    def num_ws(self) -> int:
        return 2 * self.levels


class InDomainEncoder(ImageEncoder):
    """``encoder(images [B, 3, R, R] in [-1, 1]) -> Code`` in W+; its offsets are the code, so ``latent_avg`` is zero."""

    cfg: InDomainConfig

    Config = InDomainConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.resolution, cfg.resolution)
        self.register_buffer("latent_avg", torch.zeros(cfg.w_dim))
        self.rows: Psp | None = None
        if cfg.backbone == "small":
            self.rows = Psp(_small(cfg))
            del self.rows.latent_avg  # there is one, ours
            return
        widths = [min(cfg.base_channels * 2**i, cfg.max_channels) for i in range(cfg.levels)]
        self.stem = _Conv(cfg.img_channels, widths[0], 3, cfg.batch_norm, bias=False)
        self.blocks = nn.ModuleList(_Block(i, o, cfg.batch_norm) for i, o in itertools.pairwise(widths))
        self.linear = nn.Linear(widths[-1] * 16, cfg.num_ws * cfg.w_dim, bias=False)
        self.norm = nn.BatchNorm1d(cfg.num_ws * cfg.w_dim) if cfg.batch_norm else nn.Identity()
        if not cfg.batch_norm:
            nn.init.zeros_(self.linear.weight)  # training starts from the mean latent

    def offsets(self, images: Tensor) -> Tensor:
        if self.rows is not None:
            return self.rows.offsets(images)
        x = F.leaky_relu(self.stem(images), SLOPE)
        for block in self.blocks:
            x = block(F.avg_pool2d(x, 2))
        x = x.flatten(1)
        code = self.linear(x) / math.sqrt(x.shape[1])  # equalised learning rate, in this layer only
        return self.norm(code).unflatten(1, (self.num_ws, self.w_dim))


def _small(cfg: InDomainConfig) -> PspConfig:
    return PspConfig(
        resolution=cfg.resolution,
        num_ws=cfg.num_ws,
        w_dim=cfg.w_dim,
        img_channels=cfg.img_channels,
        base_channels=cfg.base_channels,
        pyramid_channels=cfg.pyramid_channels,
        head_channels=cfg.head_channels,
    )


class InDomainRecipe(AdversarialRecipe):
    """Training the domain-guided encoder (section 3.1): on real images through the generator, with a discriminator that goes on
    learning beside it; no loss on latents."""

    kind: Literal["in-domain"] = "in-domain"
    adversarial: float = Field(0.08, ge=0)
    """Weight of the discriminator's opinion of the renderings."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InDomainLearner(self, new_inverter(InDomainEncoder, self, generator, needed, start))


class InDomainLearner(AdversarialLearner[InDomainEncoder, InDomainRecipe]):
    """One step of the domain-guided encoder's training, after one of the discriminator's on the same batch."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        code = Code(w=self.network.latents(batch.images))
        rendered = self.generator.synthesize(code)
        yield {**self.losses(rendered, batch, code), **self.adversary.terms(rendered, batch, step)}


class _Conv(nn.Module):
    """Convolution -> bias -> norm."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int, batch_norm: bool, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, out_ch, kernel, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_ch)) if bias else None
        self.norm = nn.BatchNorm2d(out_ch) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return self.norm(y)


class _Block(nn.Module):
    """Two activated 3x3 convolutions beside a shortcut, which is an activated 1x1 convolution where the width changes."""

    def __init__(self, in_ch: int, out_ch: int, batch_norm: bool) -> None:
        super().__init__()
        hidden = min(in_ch, out_ch)
        self.first = _Conv(in_ch, hidden, 3, batch_norm)
        self.second = _Conv(hidden, out_ch, 3, batch_norm)
        self.shortcut = _Conv(in_ch, out_ch, 1, batch_norm, bias=False) if in_ch != out_ch else None

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.shortcut is None else F.leaky_relu(self.shortcut(x), SLOPE)
        y = F.leaky_relu(self.first(x), SLOPE)
        return past + F.leaky_relu(self.second(y), SLOPE)
