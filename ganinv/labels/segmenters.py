"""Segmenters: images in, a region per pixel out. StyleSpace asks them which part of the image a channel changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel, config_path, load_yaml, validate
from ganinv.errors import ConfigError, DataError, WeightsRefused
from ganinv.labels.graphs import open_onnx, open_torchscript
from ganinv.labels.inputs import InputSpec

OTHERS = "others"
"""The region of pixels that belong to no other one; always region 0, as in StyleSpace's masks."""


class Segmenter(Protocol):
    """``segmenter(images) -> regions``: images [B, 3, R, R] in [-1, 1] to int64 [B, R, R], indices into ``regions``."""

    @property
    def name(self) -> str: ...

    @property
    def regions(self) -> tuple[str, ...]: ...

    def __call__(self, images: Tensor) -> Tensor: ...


class Shape(StrictModel):
    """A region of a template, in fractions of the image's side; later shapes are painted over earlier ones.

    Args:
        box: x0, y0, x1, y1. ellipse: centre x, y, radius x, y. Exactly one of them.
    """

    region: str
    box: tuple[float, float, float, float] | None = None
    ellipse: tuple[float, float, float, float] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Shape:
        if (self.box is None) == (self.ellipse is None):
            raise ValueError("give either box or ellipse")
        return self

    def inside(self, x: Tensor, y: Tensor) -> Tensor:
        """True where a point, in fractions of the side, is in the shape."""
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        assert self.ellipse is not None
        cx, cy, rx, ry = self.ellipse
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1


class TemplateConfig(StrictModel):
    """Fixed regions, for images that are aligned."""

    kind: Literal["template"]
    name: str
    shapes: tuple[Shape, ...] = Field(min_length=1)


class GraphSegmenterConfig(StrictModel):
    """A segmentation network as a graph file, which is executed (see ``ganinv.labels.graphs``).

    Args:
        classes: region -> class numbers of the network that belong to it. Other classes are ``others``.
    """

    kind: Literal["torchscript", "onnx"]
    name: str
    weights: str
    sha256: str | None = None
    input: InputSpec
    classes: Mapping[str, tuple[int, ...]] = Field(min_length=1)


class SegmenterConfig(StrictModel):
    """One segmenter, of any kind."""

    segmenter: Annotated[TemplateConfig | GraphSegmenterConfig, Field(discriminator="kind")]


class TemplateSegmenter:
    """The same regions for every image. Right for aligned images of one kind of thing, and only roughly so: a turned
    head leaves its template."""

    def __init__(self, config: TemplateConfig) -> None:
        self.name, self.shapes = config.name, config.shapes
        names = dict.fromkeys(shape.region for shape in config.shapes)
        self.regions = (OTHERS, *(name for name in names if name != OTHERS))

    def __call__(self, images: Tensor) -> Tensor:
        side = _side(images, self.name)
        at = (torch.arange(side, device=images.device) + 0.5) / side
        y, x = torch.meshgrid(at, at, indexing="ij")
        regions = torch.zeros(side, side, dtype=torch.int64, device=images.device)
        for shape in self.shapes:
            regions[shape.inside(x, y)] = self.regions.index(shape.region)
        return regions.expand(len(images), -1, -1)


class GraphSegmenter:
    """A segmentation network, its classes merged into regions."""

    def __init__(self, config: GraphSegmenterConfig) -> None:
        opened = open_torchscript if config.kind == "torchscript" else open_onnx
        self.net, self.weights_sha256 = opened(config.weights, config.sha256)
        self.net.eval()
        self.name, self.spec = config.name, config.input
        self.regions = (OTHERS, *(name for name in config.classes if name != OTHERS))
        self.classes = config.classes
        self._table: Tensor | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        side = _side(images, self.name)
        logits = self.net(self.spec.prepare(images.float().clamp(-1, 1)))
        while isinstance(logits, list | tuple):  # networks with auxiliary heads give the main one first
            logits = logits[0]
        if logits.ndim != 4 or len(logits) != len(images):
            raise WeightsRefused(f"segmenter {self.name!r} must give logits [B, K, h, w], got {tuple(logits.shape)}")
        classes = F.interpolate(logits.float(), size=(side, side), mode="bilinear", align_corners=False).argmax(1)
        return self._regions(logits.shape[1]).to(images.device)[classes]

    def _regions(self, count: int) -> Tensor:
        """The region of each of the network's classes."""
        table = torch.zeros(count, dtype=torch.int64)
        for region, numbers in self.classes.items():
            if max(numbers) >= count:
                raise ConfigError(f"segmenter {self.name!r} has {count} classes, {region!r} asks for {max(numbers)}")
            table[list(numbers)] = self.regions.index(region)
        return table


def open_segmenter(name: str) -> Segmenter:
    """A segmenter of ``configs/segmenters``, or by the path of a YAML file.

    Raises:
        ConfigError: no such segmenter. WeightsRefused: its weights cannot be used.
    """
    path = config_path("segmenters", name)
    config: Any = validate(SegmenterConfig, {"segmenter": load_yaml(path)}, path.name).segmenter
    if isinstance(config, TemplateConfig):
        return TemplateSegmenter(config)
    if "://" not in config.weights:
        config = config.model_copy(update={"weights": str(Path(path).parent / config.weights)})
    return GraphSegmenter(config)


def shrink(regions: Tensor, size: int, count: int) -> Tensor:
    """Regions [B, R, R] at ``size`` by majority vote: int64 [B, size, size]. A tie goes to the lower index."""
    votes = F.one_hot(regions, count).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(votes, size).argmax(1)


def _side(images: Tensor, name: str) -> int:
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise DataError(f"segmenter {name!r} takes square images [B, 3, R, R], got {tuple(images.shape)}")
    return images.shape[2]
