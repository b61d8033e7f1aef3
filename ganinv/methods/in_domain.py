"""The domain-guided encoder of In-Domain GAN inversion (Zhu et al. 2020, section 3.1), in its PyTorch release's form."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from ganinv.methods.base import ImageEncoder, InverterConfig

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
    """Normalise after every convolution, and the code at the end (the published models do)."""

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
        widths = [min(cfg.base_channels * 2**i, cfg.max_channels) for i in range(cfg.levels)]
        self.stem = _Conv(cfg.img_channels, widths[0], 3, cfg.batch_norm, bias=False)
        self.blocks = nn.ModuleList(_Block(i, o, cfg.batch_norm) for i, o in itertools.pairwise(widths))
        self.linear = nn.Linear(widths[-1] * 16, cfg.num_ws * cfg.w_dim, bias=False)
        self.norm = nn.BatchNorm1d(cfg.num_ws * cfg.w_dim) if cfg.batch_norm else nn.Identity()
        self.register_buffer("latent_avg", torch.zeros(cfg.w_dim))

    def offsets(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem(images), SLOPE)
        for block in self.blocks:
            x = block(F.avg_pool2d(x, 2))
        x = x.flatten(1)
        code = self.linear(x) / math.sqrt(x.shape[1])  # equalised learning rate, in this layer only
        return self.norm(code).unflatten(1, (self.num_ws, self.w_dim))


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
