"""The encoder into W: one latent for all rows (pSp's W variant, Richardson et al. 2021; the first step of HyperStyle)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear
from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.networks.irse import IRSE50


class WEncoderConfig(InverterConfig):
    """The shape of an encoder into W on IR-SE-50."""

    kind: Literal["w"] = "w"

    num_ws: int = Field(ge=1)
    """Rows that the one latent is repeated for."""
    resolution: int = 256
    input_height: int | None = None
    img_channels: int = 3
    w_dim: int = 512
    latent_avg_per_row: bool = False


class WEncoder(ImageEncoder):
    """``encoder(images [B, 3, R, R] in [-1, 1]) -> Code`` in W: mean of the coarse map, one linear layer."""

    cfg: WEncoderConfig

    Config = WEncoderConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.trunk = IRSE50(cfg.img_channels)
        self.linear = EqualLinear(self.trunk.widths[0], cfg.w_dim)
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def offsets(self, images: Tensor) -> Tensor:
        w = self.linear(self.trunk(images)[0].mean(dim=(2, 3)))
        return w[:, None].expand(-1, self.num_ws, -1)


class NaiveWPlusConfig(InverterConfig):
    """The shape of the naive encoder into W+ on IR-SE-50."""

    kind: Literal["naive-w+"] = "naive-w+"
    num_ws: int = Field(ge=1)
    resolution: int = 256
    input_height: int | None = None
    img_channels: int = 3
    w_dim: int = 512
    latent_avg_per_row: bool = False


class NaiveWPlusEncoder(ImageEncoder):
    """pSp's "naive W+" baseline: one linear layer from a W-like feature to all rows (Richardson et al. 2021, table 2)."""

    cfg: NaiveWPlusConfig

    Config = NaiveWPlusConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.trunk = IRSE50(cfg.img_channels)
        width = self.trunk.widths[0]
        self.norm = nn.BatchNorm2d(width)
        self.features = nn.Linear(width * 7 * 7, 512)
        self.linear = EqualLinear(512, cfg.num_ws * cfg.w_dim)
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def offsets(self, images: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.norm(self.trunk(images)[0]), 7)
        return self.linear(self.features(x.flatten(1))).unflatten(1, (self.num_ws, self.w_dim))
