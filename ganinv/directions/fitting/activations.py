"""GANSpace on activations: principal components of a layer's features, regressed to W (Harkonen et al. 2020, section 2.2).

Features of a layer have tens of thousands of dimensions, so their components come from incremental PCA over batches. The
coordinates of samples in them, in standard deviations, then predict w by least squares: what moves w along a row of that
map moves the features along the component, as far as a linear map can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.directions.fitting.ganspace import PrincipalComponents, signed
from ganinv.directions.fitting.streams import stream_mapped
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.metrics.moments import Moments


class ActivationConfig(StrictModel):
    """Which features, and how many samples and components."""

    site: str = "act[2]"
    """``act[k]`` after convolution k, ``block[k]`` after a resolution's last one, as ``Generator.synthesize`` names them."""
    components: int = Field(default=20, ge=1)
    samples: int = Field(default=20_000, ge=2)
    batch: int | None = Field(default=None, ge=2)
    """Samples per step of the incremental PCA. The published max(100, 2 * components) by default; at least components."""
    seed: int = 0


def fit_activations(generator: Generator, config: ActivationConfig | None = None) -> PrincipalComponents:
    """Components of a layer's features as directions of W.

    In memory are the components, one batch of features, and matrices of w_dim squared.

    Returns:
        Unit directions of W, largest variance of the features first; ``sigma`` is the standard deviation of w along each
        one, ``variance_ratio`` the share of the *features'* variance that its component has. They are not orthogonal.

    Raises:
        ConfigError: no such site. DataError: too few samples, or features that do not vary.
    """
    config = config or ActivationConfig()
    batch = config.batch or max(100, 2 * config.components)
    if batch < config.components or config.samples < 2 * config.components:
        raise DataError(
            f"{config.components} components need batches of at least as many samples and twice as many samples, got "
            f"batches of {batch} and {config.samples} samples"
        )
    mean, axes, spread, ratio = _incremental(generator, config, batch)
    if spread[-1] <= 1e-6 * spread[0]:
        raise DataError(
            f"features at {config.site} vary in {int((spread > 1e-6 * spread[0]).sum())} directions only, "
            f"{config.components} components were asked for; ask for fewer"
        )
    joint: Moments | None = None
    for features, w in _features(generator, config, batch):
        coordinates = (features - mean) @ axes.T / spread
        part = Moments.of(np.column_stack([coordinates, w]))
        joint = part if joint is None else joint + part
    assert joint is not None
    count, covariance = config.components, joint.covariance
    moves = np.linalg.solve(covariance[:count, :count], covariance[:count, count:])
    directions = signed(moves / np.linalg.norm(moves, axis=1, keepdims=True))
    sigma = np.sqrt(np.einsum("ci,ij,cj->c", directions, covariance[count:, count:], directions))
    return PrincipalComponents(
        mean=joint.mean[count:].astype(np.float32),
        components=directions.astype(np.float32),
        sigma=sigma.astype(np.float32),
        variance_ratio=ratio.astype(np.float32),
        samples=joint.n,
        correlations={},
        source=config.site,
    )


def _incremental(
    generator: Generator, config: ActivationConfig, batch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(mean [F], components [C, F], standard deviations [C], share of the variance [C]) of the features."""
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(config.components)
    for features, _ in _features(generator, config, batch):
        if len(features) >= config.components:  # the last batch may be too small for a step
            with np.errstate(invalid="ignore"):  # features that do not vary are refused by name, later
                pca.partial_fit(features)
    return (
        pca.mean_,
        pca.components_,
        np.sqrt(pca.explained_variance_.clip(min=0)),
        pca.explained_variance_ratio_,
    )


@torch.no_grad()
def _features(generator: Generator, config: ActivationConfig, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(features [n, F], w [n, w_dim]) a batch at a time. The synthesis stops where the features are."""
    kind, _, rest = config.site.partition("[")
    last = generator.cfg.num_convs - 1
    if kind not in ("act", "block") or not rest.removesuffix("]").isdecimal() or int(rest[:-1]) > last:
        raise ConfigError(f"site must be act[k] or block[k] with k up to {last}, got {config.site!r}")
    for _, w in stream_mapped(generator, config.samples, config.seed, batch):
        code = Code(w=w[:, None].expand(-1, generator.num_ws, -1))
        _, captured = generator.synthesize(code, capture=[config.site], stop=int(rest[:-1]))
        yield captured[config.site].flatten(1).double().cpu().numpy(), w.double().cpu().numpy()
