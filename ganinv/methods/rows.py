"""Encoders with one head per row of W+: the shape that pSp, e4e and the encoders inside ReStyle have in common."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.methods.inputs import as_labels, as_sketch
from ganinv.networks.blocks import PyramidBackbone, RowHead, read_together, zero_
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
    reads: Literal["photo", "sketch", "labels"] = "photo"
    """What its inputs are. They come as pictures all the same: of a sketch the brightness counts, and of a label map the grey
    value is the class (pSp's image-to-image tasks)."""
    classes: int = Field(0, ge=0)
    """Of label maps: it sees a channel for each."""
    input_height: int | None = None
    """Height of the images where they are not square (192 of 256 for cars)."""
    latent_avg_per_row: bool = False
    """``latent_avg`` is [num_ws, w_dim], not [w_dim]."""

    @model_validator(mode="after")
    def _check(self) -> RowEncoderConfig:
        if self.backbone == "small" and not self.pyramid:
            raise ValueError("the small backbone always has its pyramid: set pyramid to true, or take another backbone")
        if self.backbone != "small" and self.w_dim != FEATURES:
            raise ValueError(
                f"backbone {self.backbone!r} has heads of {FEATURES}, it cannot give w_dim {self.w_dim}: it is for generators "
                f"whose W has {FEATURES} dimensions, so name one with --generator"
            )
        if (self.reads == "labels") != bool(self.classes):
            raise ValueError(f"classes are of label maps: got {self.classes} with reads: {self.reads}")
        if self.reads != "photo" and self.sees_rendering:
            raise ValueError(f"a {self.reads} cannot be compared with a rendering: set sees_rendering to false")
        return self

    @property
    def channels(self) -> int:
        """Of what the backbone sees."""
        seen = {"photo": self.img_channels * (2 if self.sees_rendering else 1), "sketch": 1, "labels": self.classes}
        return seen[self.reads]


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
        if self.cfg.reads == "sketch":
            return self.offsets(as_sketch(images, self.input_size)) + self.latent_avg
        if self.cfg.reads == "labels":
            return self.offsets(as_labels(images, self.cfg.classes, self.input_size)) + self.latent_avg
        return super().latents(images)

    @property
    def reads(self) -> Literal["photo", "sketch", "labels"]:
        return self.cfg.reads

    def offsets(self, images: Tensor) -> Tensor:
        return self.rows(self.backbone(images))

    def rows(self, maps: Sequence[Tensor]) -> Tensor:
        """The backbone's maps, coarse first, to offsets [B, num_ws, w_dim]."""
        return torch.stack(self.combine(ask(self.heads[: self.used], self.levels, maps)), dim=1)

    @property
    def used(self) -> int:
        """How many heads are asked, from the first on."""
        return self.num_ws

    @abstractmethod
    def combine(self, said: list[Tensor]) -> list[Tensor]:
        """What the used heads say, [B, w_dim] each, to all rows."""


def ask(heads: Iterable[nn.Module], levels: Sequence[int], maps: Sequence[Tensor]) -> list[Tensor]:
    """What each head says, [B, w_dim], of the map of its level. Heads of one level stand next to one another."""
    said: list[Tensor] = []
    for level, alike in itertools.groupby(zip(levels, heads, strict=False), key=lambda pair: pair[0]):
        some = [head for _, head in alike]
        small = [head for head in some if isinstance(head, RowHead)]
        alone = len(small) < len(some)
        said += [head(maps[level]) for head in some] if alone else read_together(small, maps[level])
    return said


def _backbone(cfg: RowEncoderConfig) -> nn.Module:
    channels = cfg.channels
    if cfg.backbone == "small":
        return PyramidBackbone(cfg.resolution, channels, cfg.base_channels, cfg.pyramid_channels)
    trunk = IRSE50(channels) if cfg.backbone == "ir-se-50" else ResNet34(channels)
    return FeaturePyramid(trunk, laterals=cfg.pyramid)


def _head(cfg: RowEncoderConfig, level: int) -> nn.Module:
    if cfg.backbone == "small":
        return RowHead(cfg.pyramid_channels, (8, 16, 32)[level], cfg.w_dim, cfg.head_channels)
    return Map2Style(FEATURES, (16, 32, 64)[level], cfg.w_dim)
