"""Down-sampling and back, blur, noise, JPEG and grey."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pydantic import Field, model_validator

from ganinv.degradations.base import Degradation, Degraded, Image8, Span

BT601 = (0.299, 0.587, 0.114)


class Down(Degradation):
    """Down by a factor and back to the old size: pSp's super-resolution inputs (Richardson et al. 2021, section 4.3)."""

    kind: Literal["down"] = "down"
    factors: tuple[int, ...] = Field((2,), min_length=1)
    """One of them is drawn for each image; 1 leaves it as it is. pSp's: 1, 2, 4, 8, 16, 32."""

    @model_validator(mode="after")
    def _check(self) -> Down:
        if min(self.factors) < 1:
            raise ValueError(f"factors must be at least 1, got {list(self.factors)}")
        return self

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        factor = int(rng.choice(self.factors))
        return Degraded(image if factor == 1 else resized(shrunk(image, factor), *image.shape[:2]))


class Blur(Degradation):
    """A Gaussian blur."""

    kind: Literal["blur"] = "blur"
    radius: Span = (0.0, 0.02)
    """Its standard deviation, as a share of the longer side."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        return Degraded(blurred(image, rng.uniform(*self.radius) * max(image.shape[:2])))


class Noise(Degradation):
    """Gaussian noise, or salt and pepper, each for half of the images: E2Style's denoising (Wei et al. 2022)."""

    kind: Literal["noise"] = "noise"
    variance: float = Field(0.01, ge=0)
    """Of the Gaussian, for pixels in [0, 1]."""
    amount: float = Field(0.05, ge=0, le=1)
    """Share of the values that become salt or pepper."""
    salt_share: float = Field(0.5, ge=0, le=1)
    """Share of images with salt and pepper."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        if rng.random() >= self.salt_share:
            noisy = image / 255 + rng.normal(0, self.variance**0.5, image.shape)
            return Degraded((noisy.clip(0, 1) * 255).astype(np.uint8))
        hit = rng.random(image.shape) < self.amount
        salt = np.where(rng.random(image.shape) < 0.5, np.uint8(255), np.uint8(0))
        return Degraded(np.where(hit, salt, image))


class Jpeg(Degradation):
    """Encoded and decoded again. Opacity stays as it is."""

    kind: Literal["jpeg"] = "jpeg"
    quality: tuple[int, int] = (10, 60)
    """Least and largest, of 1 to 95."""

    @model_validator(mode="after")
    def _check(self) -> Jpeg:
        if not 1 <= self.quality[0] <= self.quality[1] <= 95:
            raise ValueError(f"quality must rise within 1 and 95, got {list(self.quality)}")
        return self

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        seen = image[:, :, :3] if image.shape[2] > 2 else image[:, :, :1]
        file = io.BytesIO()
        _picture(seen).save(file, format="JPEG", quality=quality)
        lossy = np.asarray(Image.open(io.BytesIO(file.getvalue()))).reshape(seen.shape)
        return Degraded(np.concatenate([lossy, image[:, :, seen.shape[2] :]], axis=2))


class Grey(Degradation):
    """Colours taken away; the three channels are equal then. Images without colours stay as they are."""

    kind: Literal["grey"] = "grey"
    weights: tuple[float, float, float] = BT601
    """Of red, green and blue. E2Style's own are 0.114, 0.587, 0.299: its colours are the wrong way round."""

    def apply(self, image: Image8, rng: np.random.Generator) -> Degraded:
        if image.shape[2] < 3:
            return Degraded(image)
        grey = np.rint(image[:, :, :3] @ np.array(self.weights)).clip(0, 255).astype(np.uint8)
        return Degraded(np.concatenate([np.repeat(grey[:, :, None], 3, axis=2), image[:, :, 3:]], axis=2))


def shrunk(image: Image8, factor: int) -> Image8:
    """An image [H, W, C] to [H // factor, W // factor, C]: cubic convolution with a = -0.5 (Keys 1981), stretched by the factor
    so that nothing aliases; edges are mirrored."""
    taps = cubic_taps(factor)
    before = (len(taps) - factor) // 2
    pixels = image.astype(np.float64)
    for axis in (0, 1):
        size = pixels.shape[axis] // factor
        after = len(taps) - factor - before
        pad = [(0, 0)] * 3
        pad[axis] = (before, after)
        padded = np.moveaxis(np.pad(pixels, pad, mode="reflect"), axis, -1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=-1)[..., ::factor, :][..., :size, :]
        pixels = np.moveaxis(windows @ taps, -1, axis)
    return np.rint(pixels.clip(0, 255)).astype(np.uint8)


def cubic_taps(factor: int) -> NDArray[np.float64]:
    """The 4 * factor weights of a stretched cubic kernel; their sum is 1."""
    x = np.abs((np.arange(4 * factor) - 2 * factor + 0.5) / factor)
    a = -0.5
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    taps = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    out: NDArray[np.float64] = taps / taps.sum()
    return out


def resized(image: Image8, height: int, width: int) -> Image8:
    """An image [H, W, C] to [height, width, C]: bilinear, with antialiasing where it becomes smaller."""
    return _array(_picture(image).resize((width, height), Image.Resampling.BILINEAR), image)


def blurred(image: Image8, radius: float) -> Image8:
    """An image [H, W, C] with a Gaussian blur of ``radius`` pixels (its standard deviation; three passes of box blurs)."""
    return image if radius <= 0 else _array(_picture(image).filter(ImageFilter.GaussianBlur(radius)), image)


def _picture(image: Image8) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _array(picture: Image.Image, like: Image8) -> Image8:
    array = np.asarray(picture)
    return array.reshape(*array.shape[:2], like.shape[2])
