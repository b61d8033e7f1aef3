"""Per-image distances between two batches of images, [B, C, H, W] in [-1, 1] , each returning [B].

Nothing is averaged over images here: the mean of PSNR over images is not the PSNR of the mean MSE, and a caller should
see which one it takes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import DataError

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference, 0..4 for images in [-1, 1]."""
    _check(a, b)
    return (a - b).square().mean((1, 2, 3))


def psnr(a: Tensor, b: Tensor, peak: float = 2.0) -> Tensor:
    """10 log10(peak^2 / MSE) in dB; infinite for equal images. The peak of [-1, 1] is 2, so 10 log10(4 / MSE)."""
    return 10 * torch.log10(peak**2 / mse(a, b))


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity (Wang et al. 2004) with a Gaussian window, of the images moved to [0, 1].

    scikit-image computes the same (tests compare), one image at a time on the processor; here whole batches are compared where
    they are, and MS-SSIM has the terms that the library does not give out.

    Its luminance term is a ratio of products of means, which says nothing where means have a sign: on [-1, 1] the same pair
    has another value, which nobody else's tables show. The mean over channels and over the pixels where the window fits.

    Raises:
        DataError: images smaller than the window, or of different shapes.
    """
    _check(a, b, window)
    return _ssim_and_contrast((a + 1) / 2, (b + 1) / 2, window, sigma)[0].mean(1)


def ms_ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) on [0, 1]: five scales with 2x2 averages between them.

    Product over scales of the contrast terms and the last SSIM, each to the power of its weight, per channel, then the
    mean over channels. Negative terms count as 0. The window must fit into the smallest scale, so this is defined only
    from 16 * 11 = 176 pixels on: smaller images get NaN, rather than a number with fewer scales that looks comparable
    and is not.
    """
    _check(a, b)
    scales = len(MS_SSIM_WEIGHTS)
    if min(a.shape[2:]) < window * 2 ** (scales - 1):
        return a.new_full((len(a),), float("nan"))
    a, b = (a + 1) / 2, (b + 1) / 2
    product = a.new_ones(a.shape[:2])
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale > 0:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        similarity, contrast = _ssim_and_contrast(a, b, window, sigma)
        term = similarity if scale == scales - 1 else contrast
        product = product * term.clamp(min=0) ** weight
    return product.mean(1)


def _ssim_and_contrast(a: Tensor, b: Tensor, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of images in [0, 1], each [B, C]."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b, aa, bb, ab = _blur(torch.stack([a, b, a * a, b * b, a * b]), window, sigma)
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    contrast = (2 * cov + c2) / (var_a + var_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _blur(x: Tensor, window: int, sigma: float) -> Tensor:
    """Separable Gaussian filter over the last two dimensions, no padding."""
    offsets = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])


def _check(a: Tensor, b: Tensor, smallest: int = 1) -> None:
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[2:]) < smallest:
        raise DataError(
            f"image metrics compare two batches [B, C, H, W] of one shape, at least {smallest} pixels wide and high; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
