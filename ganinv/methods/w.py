"""The encoder into W: one latent for all rows (pSp's W variant, Richardson et al. 2021; the first step of HyperStyle)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.generators.layers import EqualLinear
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.networks.blocks import PyramidBackbone, RowHead, zero_
from ganinv.networks.irse import IRSE50
from ganinv.training.learner import Learner


class GlobalFeatureConfig(InverterConfig):
    """The shape of an encoder that makes all rows from one feature of the whole image."""

    num_ws: int = Field(ge=1)
    """Rows of W+ of the generator."""
    resolution: int = 256
    input_height: int | None = None
    img_channels: int = 3
    w_dim: int = 512
    latent_avg_per_row: bool = False
    backbone: Literal["ir-se-50", "small"] = "ir-se-50"
    """``ir-se-50`` as published, or this project's own for images of 32 to 128 pixels."""
    base_channels: int = Field(16, ge=8)
    """Width of the small backbone at full size."""
    pyramid_channels: int = Field(96, ge=8)
    """Width of the small backbone's maps."""


class WEncoderConfig(GlobalFeatureConfig):
    """The shape of an encoder into W."""

    kind: Literal["w"] = "w"


class WEncoder(ImageEncoder):
    """``encoder(images [B, C, R, R] in [-1, 1]) -> Code`` in W: the coarse map to one latent. Published: its mean, and one
    linear layer."""

    cfg: WEncoderConfig

    Config = WEncoderConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        if cfg.backbone == "small":
            self.trunk: nn.Module = PyramidBackbone(
                cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.pyramid_channels
            )
            self.head = RowHead(cfg.pyramid_channels, 8, cfg.w_dim)
            zero_(self.head.linear)  # training starts from the mean latent
        else:
            trunk = IRSE50(cfg.img_channels)
            self.trunk, self.linear = trunk, EqualLinear(trunk.widths[0], cfg.w_dim)
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def offsets(self, images: Tensor) -> Tensor:
        coarse = self.trunk(images)[0]
        w = self.head(coarse) if self.cfg.backbone == "small" else self.linear(coarse.mean(dim=(2, 3)))
        return w[:, None].expand(-1, self.num_ws, -1)


class WRecipe(InverterRecipe):
    """Training an encoder into W: the shared losses on one rendering. HyperStyle starts from it (section 3.1 there)."""

    kind: Literal["w"] = "w"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InverterLearner(self, new_inverter(WEncoder, self, generator, needed, start))


class NaiveWPlusConfig(GlobalFeatureConfig):
    """The shape of the naive encoder into W+."""

    kind: Literal["naive-w+"] = "naive-w+"


class NaiveWPlusEncoder(ImageEncoder):
    """pSp's "naive W+" baseline: one linear layer from a W-like feature to all rows (Richardson et al. 2021, table 2)."""

    cfg: NaiveWPlusConfig

    Config = NaiveWPlusConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.trunk: nn.Module
        self.norm: nn.Module
        if cfg.backbone == "small":
            self.trunk = PyramidBackbone(cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.pyramid_channels)
            width, self.grid, feature = cfg.pyramid_channels, 4, cfg.w_dim
            self.norm = nn.GroupNorm(8, width)
        else:
            trunk = IRSE50(cfg.img_channels)
            self.trunk, width, self.grid, feature = trunk, trunk.widths[0], 7, 512
            self.norm = nn.BatchNorm2d(width)
        self.features = nn.Linear(width * self.grid**2, feature)
        self.linear = EqualLinear(feature, cfg.num_ws * cfg.w_dim)
        zero_(self.linear)  # training starts from the mean latent
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def offsets(self, images: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.norm(self.trunk(images)[0]), self.grid)
        return self.linear(self.features(x.flatten(1))).unflatten(1, (self.num_ws, self.w_dim))


class NaiveWPlusRecipe(InverterRecipe):
    """Training the naive encoder into W+: the shared losses on one rendering."""

    kind: Literal["naive-w+"] = "naive-w+"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InverterLearner(self, new_inverter(NaiveWPlusEncoder, self, generator, needed, start))
