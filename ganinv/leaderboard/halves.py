"""Distance of edited halves (StyleFeatureEditor, Bobkov et al. 2024, section 4): images without an attribute, edited to have
it, against real images that have it.

The published measure is FID by Inception. Here it is KID in the features of SqueezeNet, which is a judge: Inception's weights
do not ship, and a Frechet distance of fewer images than features mostly measures how many images there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ganinv.errors import DataError
from ganinv.metrics.features import cubic_kernels, mmd_of_kernels
from ganinv.report.intervals import Estimate

PHOTOS = "photos"
"""Name of the row of real images, where other rows have the name of a method."""
DRAWS = 60
"""Number of random halves of both sets, from which the error of a distance is estimated."""
THOUSANDS = 1000
"""KID is printed times this number, as usual."""


class HalvesDistance(NamedTuple):
    """KID times 1000 to the real half.

    ``unedited``; ``best``: at the strength where it is smallest, as published; ``gain``: the first minus the second; ``asked``:
    at a given strength; ``strength``: of the best.
    """

    unedited: Estimate
    best: Estimate
    gain: Estimate
    asked: Estimate
    strength: float


def lower_half(measure: np.ndarray) -> np.ndarray:
    """[N] bool: the half of the images with the lowest values of the measure [N]. Images without a value are in neither
    half."""
    return measure < np.nanmedian(measure)


def random_halves(photos: np.ndarray, seed: int = 0) -> float:
    """KID times 1000 of two random halves of these photos' features [N, D], which is not exceeded in 95 % of splits: what
    splitting without any attribute gives."""
    size = np.sqrt(np.square(photos, dtype=np.float64).mean())
    (within, _, _), rng, found = cubic_kernels(photos / size, photos[:1] / size), np.random.default_rng(seed), []
    for _ in range(DRAWS * 5):
        a, b = np.array_split(rng.permutation(len(photos)), 2)
        found.append(mmd_of_kernels(within[a][:, a], within[b][:, b], within[a][:, b]))
    return float(np.quantile(found, 0.95)) * THOUSANDS


def halves_distance(
    edited: np.ndarray, real: np.ndarray, strengths: tuple[float, ...], asked: float = np.nan, seed: int = 0
) -> HalvesDistance:
    """Distance of the edited half to the real one.

    Intervals are of 95 %, from the spread of the same distance over random halves of both sets (the jackknife that leaves half
    out; resampling with replacement would count an image as its own neighbour). They are up to 1.7 times too wide if both sets
    have nearly the same distribution, and never too narrow.

    Args:
        edited: features [S, N, D] at strength 0 and at each of ``strengths``. real: [M, D].
        asked: a strength within their range, or NaN for none.

    Raises:
        DataError: the shapes are different, or a half has fewer than four images.
    """
    tried = (0.0, *strengths)
    if edited.ndim != 3 or real.ndim != 2 or len(edited) != len(tried) or edited.shape[2] != real.shape[1]:
        raise DataError(f"expected features [{len(tried)}, N, D] and [M, D], got {edited.shape} and {real.shape}")
    if min(edited.shape[1], len(real)) < 4:
        raise DataError(f"halves of {edited.shape[1]} and {len(real)} images are too few: give four at least")
    # In units of the real half's own size: the cubic kernel (x . y / D + 1)^3 was made for features of about 1.
    size = np.sqrt(np.square(real, dtype=np.float64).mean())
    edited, real = edited / size, real / size
    kernels = [cubic_kernels(each, real) for each in edited]
    rng, drawn = np.random.default_rng(seed), list[list[float]]()
    for _ in range(DRAWS):
        a, b = (rng.choice(n, n // 2, replace=False) for n in (edited.shape[1], len(real)))
        drawn.append([mmd_of_kernels(aa[a][:, a], bb[b][:, b], ab[a][:, b]) for aa, bb, ab in kernels])
    whole = np.array([mmd_of_kernels(*each) for each in kernels]) * THOUSANDS
    spread, best = np.array(drawn) * THOUSANDS, 1 + int(whole[1:].argmin())

    def told(of: np.ndarray, over: np.ndarray) -> Estimate:
        mean, around = float(of), 1.96 * float(over.std())
        return Estimate(mean, mean - around, mean + around, edited.shape[1])

    at_asked = np.array([np.interp(asked, tried, line) for line in (whole, *spread)])
    return HalvesDistance(
        told(whole[0], spread[:, 0]),
        told(whole[best], spread[:, best]),
        told(whole[0] - whole[best], spread[:, 0] - spread[:, best]),
        told(at_asked[0], at_asked[1:]),
        tried[best],
    )
