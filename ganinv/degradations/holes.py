"""Holes: brush strokes, free forms and triangles that are painted over an image and have to be filled in."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from ganinv.degradations.base import Degradation, Degraded, Image8, Span
from ganinv.errors import ConfigError

FILLS = {"white": 255, "grey": 128, "black": 0}
MOST_DRAWS = 500  # of a free form, until its hole is of the wanted size

Hole = NDArray[np.bool_]
"""bool [H, W], true where the image is covered."""


class Holes(Degradation):
    """A degradation that covers pixels."""

    fill: Literal["white", "grey", "black"] = "white"

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        hole = self.draw(image.shape[0], image.shape[1], rng)
        return Degraded(np.where(hole[:, :, None], np.uint8(FILLS[self.fill]), image), hole)

    @abstractmethod
    def draw(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """A hole for an image of this size."""


class Strokes(Holes):
    """Zigzag strokes with round joints, as UDA-Inversion (Xing et al. 2022) and GPEN (Yang et al. 2021) draw them.

    By default one stroke of 5 to 7 segments. GPEN's are ``count: [1, 3]``, ``vertices: [8, 27]``, ``reach: 0.125``.
    """

    kind: Literal["strokes"] = "strokes"
    count: tuple[int, int] = (1, 1)
    """Least and most strokes."""
    vertices: tuple[int, int] = (5, 7)
    """Least and most segments of a stroke."""
    reach: float = Field(0.05, gt=0)
    """Mean length of a segment, as a share of the image's diagonal."""
    width: Span = (12 / 1024, 80 / 1024)
    """Of the brush, as a share of the longer side. Published: 12 to 80 pixels, whatever the size of the file."""

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        mask = np.zeros((height, width), bool)
        for _ in range(int(rng.integers(self.count[0], self.count[1] + 1))):
            points = self._points(height, width, rng)
            brush = max(1, int(rng.uniform(*self.width) * max(height, width)))
            mask |= stroke(height, width, points, brush)
        return mask

    def _points(self, height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """The joints (x, y) of a stroke that turns back and forth."""
        mean, spread = 2 * math.pi / 5, 2 * math.pi / 15
        least, most = mean - rng.uniform(0, spread), mean + rng.uniform(0, spread)
        step = math.hypot(height, width) * self.reach
        points = [(int(rng.integers(width)), int(rng.integers(height)))]
        for i in range(int(rng.integers(self.vertices[0], self.vertices[1] + 1))):
            angle = rng.uniform(least, most)
            angle = angle if i % 2 else 2 * math.pi - angle
            length = float(np.clip(rng.normal(step, step // 2), 0, 2 * step))
            x, y = points[-1][0] + length * math.cos(angle), points[-1][1] + length * math.sin(angle)
            points.append((int(np.clip(x, 0, width)), int(np.clip(y, 0, height))))
        return points


class FreeForm(Holes):
    """Boxes and strokes until the hole has the wanted size: the training masks of Co-Mod-GAN (Zhao et al. 2021)."""

    kind: Literal["free-form"] = "free-form"
    share: Span = (0.0, 1.0)
    """The hole's share of the image is strictly between these."""
    brush: Span = (12 / 512, 48 / 512)
    """Of the strokes, as a share of the longer side."""

    @model_validator(mode="after")
    def _check(self) -> FreeForm:
        if not 0 <= self.share[0] < self.share[1] <= 1:
            raise ValueError(f"share must rise within 0 and 1, got {self.share}")
        return self

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        for _ in range(MOST_DRAWS):
            mask = self._draw(height, width, rng)
            if self.share[0] < mask.mean() < self.share[1]:
                return mask
        raise ConfigError(
            f"none of {MOST_DRAWS} free forms covers between {self.share[0]} and {self.share[1]} of an image of "
            f"{height}x{width} pixels: widen degrade's share"
        )

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        much = min(sum(self.share), 1.0)
        mask = np.zeros((height, width), bool)
        for most, part in ((int(10 * much), 2), (int(5 * much), 1)):
            for _ in range(int(rng.integers(max(most, 1)))):
                _cut(mask, max(height // part, 1), max(width // part, 1), rng)
        lines = Strokes(vertices=(4, 17), reach=0.125, width=self.brush)
        for _ in range(int(rng.integers(max(int(20 * much), 1)))):
            drawn = lines.draw(height, width, rng)
            drawn = drawn[::-1] if rng.random() < 0.5 else drawn
            mask |= drawn[:, ::-1] if rng.random() < 0.5 else drawn
        return mask


class Triangle(Holes):
    """One triangle, as E2Style (Wei et al. 2022) trains inpainting on: two corners left or right, the third below."""

    kind: Literal["triangle"] = "triangle"
    fill: Literal["white", "grey", "black"] = "black"

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        top, bottom = rng.choice((35, 220)), rng.choice((35, 70))
        return triangle(height, width, [(int(top), 35), (int(bottom), 220), (int(bottom) + 150, 220)])


def stroke(height: int, width: int, points: list[tuple[int, int]], brush: int) -> Hole:
    """A line through points (x, y), ``brush`` pixels wide, with a disc at each point: bool [height, width]."""
    mask = Image.new("1", (width, height))
    draw, half = ImageDraw.Draw(mask), brush // 2
    draw.line(points, fill=1, width=brush)
    for x, y in points:
        draw.ellipse((x - half, y - half, x + half, y + half), fill=1)
    return np.array(mask)


def triangle(height: int, width: int, corners: list[tuple[int, int]]) -> Hole:
    """A triangle whose corners (x, y) are given for an image of 256 pixels: bool [height, width]."""
    mask = Image.new("1", (width, height))
    scaled = [(round(x * width / 256), round(y * height / 256)) for x, y in corners]
    ImageDraw.Draw(mask).polygon(scaled, fill=1, outline=1)
    return np.array(mask)


def _cut(mask: Hole, most_height: int, most_width: int, rng: np.random.Generator) -> None:
    """A box of up to this size, whose middle is in the image."""
    height, width = int(rng.integers(most_height)), int(rng.integers(most_width))
    top = int(rng.integers(-(height // 2), mask.shape[0] - height + height // 2 + 1))
    left = int(rng.integers(-(width // 2), mask.shape[1] - width + width // 2 + 1))
    mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
