from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from ganinv.errors import DataError
from ganinv.metrics import ms_ssim, mse, psnr, ssim
from ganinv.metrics.images import MS_SSIM_WEIGHTS


def pair(size: int, noise: float = 0.2, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images and noisy copies."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=rng) * 2 - 1
    a = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(-1, 1)
    return a, (a + noise * torch.randn(a.shape, generator=rng)).clamp(-1, 1)


@pytest.mark.seconds
def test_equal_images() -> None:
    """docs/methods/metrics.md, check 1."""
    a, _ = pair(192)
    assert mse(a, a).tolist() == [0.0, 0.0]
    assert psnr(a, a).tolist() == [math.inf, math.inf]
    torch.testing.assert_close(ssim(a, a), torch.ones(2))
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(2))


@pytest.mark.parametrize("d", [0.01, 0.1, 0.5])
def test_a_constant_offset(d: float) -> None:
    """docs/methods/metrics.md, check 2: MSE = d^2, PSNR = 10 log10(4 / d^2); a peak^2 of 2 is 3.0103 dB lower."""
    a = pair(32)[0].double() * 0.4
    torch.testing.assert_close(mse(a, a + d), torch.full((2,), d**2).double())
    torch.testing.assert_close(psnr(a, a + d), torch.full((2,), 10 * math.log10(4 / d**2)).double())
    lower = psnr(a, a + d) - psnr(a, a + d, peak=math.sqrt(2))
    torch.testing.assert_close(lower, torch.full((2,), 3.0103).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [11, 64, 97])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_ssim_equals_scikit_image(size: int, noise: float) -> None:
    """On [0, 1]; their Gaussian window is 11 wide at sigma 1.5, and their mean leaves out the border."""
    a, b = pair(size, noise)
    expected = [
        structural_similarity(
            (x.double().numpy() + 1) / 2,
            (y.double().numpy() + 1) / 2,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b).numpy(), expected, atol=1e-5)


def test_ms_ssim_equals_an_independent_implementation() -> None:
    a, b = pair(200)
    b[1] = -b[1]
    np.testing.assert_allclose(
        ms_ssim(a, b).numpy(), [reference_ms_ssim(x, y) for x, y in zip(a, b, strict=True)], atol=1e-4
    )


def reference_ms_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """The definition, with SciPy's filters, one channel at a time."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    blur = lambda x: correlate1d(correlate1d(x, window, axis=0), window, axis=1)[5:-5, 5:-5]  # noqa: E731
    c1, c2 = 0.01**2, 0.03**2
    channels = []
    for x, y in zip((a.double().numpy() + 1) / 2, (b.double().numpy() + 1) / 2, strict=True):
        value = 1.0
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            mx, my = blur(x), blur(y)
            vx, vy, cxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
            term = (2 * cxy + c2) / (vx + vy + c2)
            if scale == 4:
                term = term * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            value *= max(term.mean(), 0) ** weight
            even_x, even_y = (z[: z.shape[0] // 2 * 2, : z.shape[1] // 2 * 2] for z in (x, y))
            x, y = ((z[::2, ::2] + z[1::2, ::2] + z[::2, 1::2] + z[1::2, 1::2]) / 4 for z in (even_x, even_y))
        channels.append(value)
    return float(np.mean(channels))


def test_ms_ssim_is_not_defined_for_small_images() -> None:
    assert ms_ssim(*pair(175)).isnan().all()
    assert not ms_ssim(*pair(176)).isnan().any()


@pytest.mark.seconds
def test_values_do_not_depend_on_the_batch() -> None:
    a, b = pair(176, batch=4)
    for metric in (mse, psnr, ssim, ms_ssim):
        alone = torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(metric(a, b), alone, atol=1e-6, rtol=1e-6)


@pytest.mark.seconds
def test_gradients_in_double_precision() -> None:
    a, b = (x[:1, :, :12, :12].double() for x in pair(16))
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), a.requires_grad_())


def test_images_that_cannot_be_compared_are_refused() -> None:
    a, b = pair(32)
    with pytest.raises(DataError, match="of one shape"):
        mse(a, b[:1])
    with pytest.raises(DataError, match="at least 11 pixels"):
        ssim(a[..., :8], b[..., :8])
