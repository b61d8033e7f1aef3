"""Fill holes: the image that a method sees, the composite with its rendering, and measures of how well the two fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 3  # pixels from a hole: the image there says how rough a seam may be
SMOOTHEST = 1 / 127.5  # a step of one of 256 grey levels: nothing is judged as smoother


def blanked(images: Tensor, holes: Tensor) -> Tensor:
    """Images [B, C, R, R] whose holes [B, 1, R, R] (1 where pixels are missing) have the mean colour of the rest, so that a
    method sees nothing of what was there."""
    known = 1 - holes
    mean = (images * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    return images * known + mean * holes


def composite(images: Tensor, rendered: Tensor, holes: Tensor) -> Tensor:
    """uint8 [B, C, R, R]: the known pixels of images [B, C, R, R] in [-1, 1], to the bit, and the rendering in the holes.

    Args:
        images: of 8 bits, as files have them. holes: 0 or 1, nothing between.
    """
    return torch.where(holes > 0, eight_bits(rendered), eight_bits(images))


def levelled(images: Tensor, rendered: Tensor, holes: Tensor) -> Tensor:
    """A rendering whose level in the holes is that of the image at their border: what the two differ by there is continued into
    the hole as smoothly as can be, and added (Perez et al. 2003, "Poisson Image Editing"). Edges of the rendering stay.

    Args:
        images, rendered: [B, C, R, R] in [-1, 1]. holes: [B, 1, R, R], 1 where pixels are missing.
    """
    return rendered + _continued(images - rendered, holes) * holes


SWEEPS = 40  # at each size; what is far from the border was settled at a smaller one


def _continued(values: Tensor, holes: Tensor) -> Tensor:
    """Values [B, C, H, W] where they are known, and a membrane over the holes [B, 1, H, W]: each pixel the mean of its
    neighbours. From half the size downwards first, as what is wide settles there."""
    known = 1 - holes
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    if min(values.shape[2:]) <= 2:
        mean = (values * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
        return values * known + mean * holes
    half = F.avg_pool2d(values * known, 2, ceil_mode=True) / weight.clamp_min(1e-6)
    smooth = _continued(half * (weight > 0), (weight == 0).to(holes))
    smooth = F.interpolate(smooth, size=values.shape[2:], mode="bilinear", align_corners=False)
    out = values * known + smooth * holes
    for _ in range(SWEEPS):
        wide = F.pad(out, (1, 1, 1, 1), mode="replicate")
        around = (wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:] + wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]) / 4
        out = values * known + around * holes
    return out


def eight_bits(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def known_error(images: Tensor, rendered: Tensor, holes: Tensor) -> Tensor:
    """Mean squared error [B] of the rendering itself where pixels are known. A composite hides it; a filling that does not go on
    from the border has a large one."""
    known = 1 - holes
    error = ((rendered - images).square() * known).sum(dim=(1, 2, 3))
    return error / (known.sum(dim=(1, 2, 3)) * images.shape[1]).clamp_min(1.0)


def seam(images: Tensor, holes: Tensor) -> Tensor:
    """How much rougher composites [B, C, R, R] are across the border of their holes than beside it, [B].

    The mean step between neighbouring pixels of which one was filled in, over that between known ones up to ``NEAR`` pixels from
    the hole: about 1 where nothing shows. NaN if a hole has no border, or nothing is known beside it.
    """
    images = images.float() / 127.5 if images.dtype == torch.uint8 else images
    near = F.max_pool2d(holes, 2 * NEAR + 1, stride=1, padding=NEAR) * (1 - holes)
    across: list[tuple[Tensor, Tensor]] = []
    beside: list[tuple[Tensor, Tensor]] = []
    for dim in (2, 3):
        size = images.shape[dim] - 1
        step = (images.narrow(dim, 1, size) - images.narrow(dim, 0, size)).abs().mean(dim=1, keepdim=True)
        one, two = (holes.narrow(dim, start, size) for start in (1, 0))
        both = near.narrow(dim, 1, size) * near.narrow(dim, 0, size)
        for found, weight in ((across, (one != two).to(step)), (beside, both)):
            found.append(((step * weight).sum(dim=(1, 2, 3)), weight.sum(dim=(1, 2, 3))))
    ratio = [torch.stack([s for s, _ in f]).sum(0) / torch.stack([n for _, n in f]).sum(0) for f in (across, beside)]
    return ratio[0] / ratio[1].clamp_min(SMOOTHEST)
