"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data").

Every transformation is applied to each image with probability ``p``; ``p`` follows how much the discriminator over-fits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.training.parallel import agreed


def augment(images: Tensor, p: float, rng: torch.Generator | None = None) -> Tensor:
    """Differentiable geometric and colour augmentation of images [B, 3, R, R] (the paper's "bgc" set, without flips and
    quarter turns: mirrored portraits are added to the data itself, and no portrait is upside down)."""
    if p <= 0:
        return images
    return _color(_geometry(images, p, rng), p, rng)


def jitter(
    images: Tensor, rng: torch.Generator, pixels: float = 0.05, light: float = 0.15, masks: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Images [B, 3, R, R] as another photographer might have cropped and lit them: what an encoder must not care about.
    Masks [B, 1, R, R] move with their images, and are returned beside them.

    Args:
        pixels: largest shift and change of scale, as a share of the image.
        light: largest change of contrast, and of brightness per channel.
    """
    batch, device = len(images), images.device

    def uniform(span: float, *shape: int) -> Tensor:
        return ((torch.rand(batch, *shape, generator=rng) * 2 - 1) * span).to(device)

    scale = 1 + uniform(pixels)
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = uniform(2 * pixels, 2)  # the grid spans [-1, 1]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    lit = moved * (1 + uniform(light, 1, 1, 1)) + uniform(light, 3, 1, 1) / 2
    if masks is not None:
        masks = F.grid_sample(masks, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return lit.clamp(-1, 1), masks


def perspective(images: Tensor, rng: torch.Generator, strength: float = 0.15, probability: float = 0.9) -> Tensor:
    """Images [B, C, H, W] seen from another place, each from its own: the misalignment that HFGI learns to undo (Wang et
    al. 2022, section 3.3). Each corner moves inwards by up to ``strength`` of half the side, in whole pixels; outside is 0.

    Args:
        probability: of each image to be moved at all.
    """
    batch, (height, width) = len(images), images.shape[2:]
    reach = torch.tensor([int(strength * width / 2) + 1, int(strength * height / 2) + 1], dtype=torch.float64)
    inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    corners = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=torch.float64)
    steps = (torch.rand(batch, 4, 2, generator=rng, dtype=torch.float64) * reach).floor()
    moved = (torch.rand(batch, generator=rng) < probability).double()[:, None, None]
    seen = corners + inwards * steps * moved  # where the corners come to lie
    grid = _homography(seen, corners.expand_as(seen), height, width).to(images)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _homography(from_points: Tensor, to_points: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid [B, H, W, 2] of the projective map that takes four points [B, 4, 2] (x, y in pixels) to four others."""
    x, y = from_points.unbind(2)
    u, v = to_points.unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2)
    solved = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    matrix = torch.cat([solved, torch.ones_like(solved[:, :1])], dim=1).reshape(-1, 3, 3)
    ys, xs = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    pixels = torch.stack([xs, ys, torch.ones_like(xs)], dim=2)
    mapped = torch.einsum("bij,hwj->bhwi", matrix, pixels)
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float64)
    return mapped[..., :2] / mapped[..., 2:] / size * 2 - 1


def _geometry(images: Tensor, p: float, rng: torch.Generator | None) -> Tensor:
    batch, device = images.shape[0], images.device

    def normal(std: float) -> Tensor:
        return torch.randn(batch, generator=rng, device=device) * std * _chosen(batch, p, device, rng)

    def uniform(span: float) -> Tensor:
        return (torch.rand(batch, generator=rng, device=device) * 2 - 1) * span * _chosen(batch, p, device, rng)

    scale = torch.exp2(normal(0.2))
    stretch = torch.exp2(normal(0.2))
    angle = uniform(math.pi / 12)
    shift_x, shift_y = normal(0.125), normal(0.125)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([scale * stretch * cos, -scale * stretch * sin, shift_x], dim=1),
            torch.stack([scale / stretch * sin, scale / stretch * cos, shift_y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _color(images: Tensor, p: float, rng: torch.Generator | None) -> Tensor:
    """Brightness, contrast, hue (rotation about the grey axis) and saturation, as one 3x4 matrix per image."""
    batch, device = images.shape[0], images.device

    def normal(std: float) -> Tensor:
        return torch.randn(batch, generator=rng, device=device) * std * _chosen(batch, p, device, rng)

    grey = torch.full((3, 1), 1 / math.sqrt(3), device=device)
    along = grey @ grey.t()  # projector on the grey axis
    x, y, z = grey.flatten().tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], device=device)
    eye = torch.eye(3, device=device)
    turn = (torch.rand(batch, generator=rng, device=device) * 2 - 1) * math.pi * _chosen(batch, p, device, rng)
    turn, saturation = turn[:, None, None], torch.exp2(normal(1.0))[:, None, None]
    rotation = along + turn.cos() * (eye - along) + turn.sin() * cross
    matrix = (along + saturation * (eye - along)) @ rotation * torch.exp2(normal(0.5))[:, None, None]
    return torch.einsum("bij,bjhw->bihw", matrix, images) + normal(0.2)[:, None, None, None]


def _chosen(batch: int, p: float, device: torch.device, rng: torch.Generator | None) -> Tensor:
    return (torch.rand(batch, generator=rng, device=device) < p).float()


class AdaptiveProbability:
    """Steers the augmentation probability so that the mean sign of D(real) stays at ``target`` (section 3.1, r_t)."""

    def __init__(self, target: float = 0.6, speed_kimg: float = 100.0, interval: int = 4) -> None:
        self.target, self.speed_kimg, self.interval = target, speed_kimg, interval
        self.p = 0.0
        self._signs: list[float] = []
        self._images = 0

    def update(self, real_logits: Tensor, world: int = 1) -> None:
        """Take one batch of D's opinions of real images [B, ...] into account, of each of ``world`` workers."""
        self._signs.append(agreed(real_logits.sign().mean(), world).item())
        self._images += real_logits.shape[0] * world
        if len(self._signs) == self.interval:
            direction = math.copysign(1.0, sum(self._signs) / self.interval - self.target)
            self.p = min(max(self.p + direction * self._images / (self.speed_kimg * 1000), 0.0), 0.85)
            self._signs, self._images = [], 0

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.p, "signs": list(self._signs), "images": self._images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.p, self._signs, self._images = state["p"], list(state["signs"]), state["images"]
