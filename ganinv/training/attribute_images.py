"""Labelled portraits as a young generator might have made them: moved, mirrored, blurred, noisy, off in colour, behind a veil."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.training.attribute_table import YAW


def augment(images: Tensor, targets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror (which negates yaw), move, and degrade a batch. Targets [B, 5] are glasses, gender, smile, age, yaw."""
    batch = len(images)
    mirrored = torch.rand(batch, generator=rng) < 0.5
    targets = targets.clone()
    targets[mirrored, YAW] *= -1
    angle, scale = _normal(batch, 0.1, rng), torch.exp2(_normal(batch, 0.1, rng))
    cos, sin = angle.cos() * scale, angle.sin() * scale
    flip = 1 - 2 * mirrored.float()
    x, y = _normal(batch, 0.05, rng), _normal(batch, 0.05, rng)
    theta = torch.stack([torch.stack([cos * flip, -sin, x], 1), torch.stack([sin * flip, cos, y], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return degrade(moved, rng), targets


def degrade(images: Tensor, rng: torch.Generator) -> Tensor:
    """Colour, sharpness and noise as a young generator may have them. Each image gets its own mix; some stay clean."""
    batch = len(images)
    grey = images.mean(1, keepdim=True)
    out = grey + (images - grey) * torch.exp2(_normal(batch, 0.5, rng)).view(-1, 1, 1, 1)
    gain = torch.exp2(torch.randn(batch, 3, 1, 1, generator=rng) * 0.08 + _normal(batch, 0.3, rng).view(-1, 1, 1, 1))
    out = out * gain + _normal(batch, 0.15, rng).view(-1, 1, 1, 1)
    # A random blend with a strongly blurred copy covers blur (0..1) and over-sharpening (below 0).
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = F.pad(out, (2, 2, 2, 2), mode="reflect")
    blurred = F.conv2d(blurred.flatten(0, 1)[:, None], (kernel[:, None] * kernel)[None, None]).view_as(out)
    amount = (torch.rand(batch, 1, 1, 1, generator=rng) * 1.8 - 0.8).clamp(max=1)
    out = torch.where(amount > -0.4, out.lerp(blurred, amount), out)
    level = torch.rand(batch, 1, 1, 1, generator=rng).square() * 0.15
    return (out + torch.randn(out.shape, generator=rng) * level).clamp(-1, 1)


def _normal(batch: int, std: float, rng: torch.Generator) -> Tensor:
    return torch.randn(batch, generator=rng) * std


def veiled(images: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Images [B, 3, R, R], some of them behind a veil of white, grey or black that is thicker here than there."""
    batch, size = len(images), images.shape[-1]
    thickness = torch.rand(batch, 1, 4, 4, generator=rng) * torch.rand(batch, 1, 1, 1, generator=rng) * 0.7
    thickness = F.interpolate(thickness, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    shade = torch.rand(batch, 1, 1, 1, generator=rng) * 2 - 1
    chosen = torch.rand(batch, 1, 1, 1, generator=rng) < share
    return torch.where(chosen, torch.lerp(images, shade.expand_as(images), thickness), images)
