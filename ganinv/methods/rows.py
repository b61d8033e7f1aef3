"""Encoders with one head per row of W+: the shape that pSp, e4e and the encoders inside ReStyle have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.networks.blocks import PyramidBackbone, RowHead, zero_
from ganinv.networks.heads import Map2Style
from ganinv.networks.irse import IRSE50
from ganinv.networks.pyramid import FeaturePyramid
from ganinv.networks.resnet import ResNet34

COARSE_ROWS, MEDIUM_ROWS = 3, 7  # rows 0-2 read the coarse map, 3-6 the medium, the rest the fine one


class RowEncoderConfig(InverterConfig):
    """The shape of an encoder with one head per row."""

    resolution: int
    """Width of the images it reads, and their height unless ``input_height`` says otherwise."""
    num_ws: int = Field(ge=1)
    w_dim: int
    img_channels: int = 3
    base_channels: int = Field(16, ge=8)
    """Width of the small backbone at full size."""
    pyramid_channels: int = Field(96, ge=8)
    """Width of the small backbone's maps."""
    head_channels: int = Field(48, ge=8)
    """Width within the heads of the small backbone."""
    backbone: Literal["small", "ir-se-50", "resnet-34"] = "small"
    """``small`` is this project's own, for images of 32 to 128 pixels; the others are those of the published weights."""
    pyramid: bool = True
    """False: all heads read the coarse map (ReStyle's simplified encoder)."""
    sees_rendering: bool = False
    """The input is the image and a rendering of the current code, stacked: twice the channels (ReStyle)."""
    input_height: int | None = None
    """Height of the images where they are not square (192 of 256 for cars)."""
    latent_avg_per_row: bool = False
    """``latent_avg`` is [num_ws, w_dim], not [w_dim]."""

    @model_validator(mode="after")
    def _check(self) -> RowEncoderConfig:
        if self.backbone == "small" and not self.pyramid:
            raise ValueError("the small backbone always has its pyramid: set pyramid to true, or take another backbone")
        if self.backbone != "small" and self.w_dim != FEATURES:
            raise ValueError(f"backbone {self.backbone!r} has heads of {FEATURES}, it cannot give w_dim {self.w_dim}")
        return self


FEATURES = 512  # width of the published encoders' maps and heads


class RowEncoder(ImageEncoder):
    """Backbone, one head per row; ``combine`` says how heads become rows. Untrained heads give zero offsets."""

    cfg: RowEncoderConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.backbone = _backbone(cfg)
        self.levels = [
            0 if row < COARSE_ROWS or not cfg.pyramid else 1 if row < MEDIUM_ROWS else 2 for row in range(cfg.num_ws)
        ]
        self.heads = nn.ModuleList(_head(cfg, level) for level in self.levels)
        for head in self.heads:
            zero_(head.linear)  # type: ignore[arg-type]  # training starts from the mean latent
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def latents(self, images: Tensor) -> Tensor:
        if self.cfg.sees_rendering:
            raise ValueError(
                "this encoder refines a code: it reads the image beside a rendering; it is the encoder inside ReStyle"
            )
        return super().latents(images)

    def offsets(self, images: Tensor) -> Tensor:
        return self.rows(self.backbone(images))

    def rows(self, maps: Sequence[Tensor]) -> Tensor:
        """The backbone's maps, coarse first, to offsets [B, num_ws, w_dim]."""
        return torch.stack(self.combine([maps[level] for level in self.levels]), dim=1)

    def combine(self, maps: list[Tensor]) -> list[Tensor]:
        """The map that each head reads to the rows [B, w_dim]."""
        raise NotImplementedError


def _backbone(cfg: RowEncoderConfig) -> nn.Module:
    channels = cfg.img_channels * (2 if cfg.sees_rendering else 1)
    if cfg.backbone == "small":
        return PyramidBackbone(cfg.resolution, channels, cfg.base_channels, cfg.pyramid_channels)
    trunk = IRSE50(channels) if cfg.backbone == "ir-se-50" else ResNet34(channels)
    return FeaturePyramid(trunk, laterals=cfg.pyramid)


def _head(cfg: RowEncoderConfig, level: int) -> nn.Module:
    if cfg.backbone == "small":
        return RowHead(cfg.pyramid_channels, (8, 16, 32)[level], cfg.w_dim, cfg.head_channels)
    return Map2Style(FEATURES, (16, 32, 64)[level], cfg.w_dim)
