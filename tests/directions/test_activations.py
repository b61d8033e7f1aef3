"""GANSpace on features, on streams of samples, and the words for what a component does."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.directions.fitting.activations import ActivationConfig, fit_activations
from ganinv.directions.fitting.ganspace import GanSpaceConfig, fit_ganspace, named_by
from ganinv.directions.fitting.streams import stream_mapped, stream_w
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.metrics import Moments
from tests.tiny import tiny_generator


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator(16)


def features(g: Generator, w: torch.Tensor, site: str) -> np.ndarray:
    with torch.no_grad():
        _, captured = g.synthesize(Code(w=w[:, None].expand(-1, g.num_ws, -1)), capture=[site])
    return captured[site].flatten(1).double().numpy()


def test_streams_are_the_samples_of_their_seed(g: Generator) -> None:
    whole = np.concatenate(list(stream_w(g, 100, seed=3)))
    parts = list(stream_w(g, 100, seed=3, batch=33))
    assert [len(part) for part in parts] == [33, 33, 33, 1]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    z, w = next(stream_mapped(g, 5, seed=3))
    torch.testing.assert_close(g.map(z)[:, 0], w)


@pytest.mark.seconds
def test_a_stream_of_w_is_decomposed_in_constant_memory(g: Generator) -> None:
    peaks = []
    for samples in (4000, 64_000):
        tracemalloc.start()
        found = fit_ganspace(stream_w(g, samples, seed=0, batch=1000), GanSpaceConfig(components=8))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found.samples == 64_000
    # A quarter of what all samples take, for what other threads of this process (Ray's, Prefect's) allocate meanwhile.
    assert peaks[1] < peaks[0] + 64_000 * g.w_dim * 4 / 4
    exact = fit_ganspace(np.concatenate(list(stream_w(g, 64_000, seed=0))), GanSpaceConfig(components=8))
    np.testing.assert_allclose(np.sum(found.components * exact.components, 1), 1, atol=1e-6)


@pytest.mark.seconds
def test_components_of_features_are_those_of_an_exact_decomposition(g: Generator) -> None:
    config = ActivationConfig(site="act[2]", components=6, samples=1500, batch=500)
    found = fit_activations(g, config)
    assert found.source == "act[2]"
    assert found.components.shape == (6, g.w_dim)
    np.testing.assert_allclose(np.linalg.norm(found.components, axis=1), 1, atol=1e-5)
    w = torch.from_numpy(np.concatenate(list(stream_w(g, 1500, seed=0))))
    x = features(g, w, "act[2]")
    mean = x.mean(0)
    _, values, axes = np.linalg.svd(x - mean, full_matrices=False)
    spread = values / np.sqrt(len(x) - 1)
    np.testing.assert_allclose(found.variance_ratio, (spread**2 / (spread**2).sum())[:6], rtol=0.05)
    # Coordinates in standard deviations, with a constant: ordinary least squares.
    coordinates = np.column_stack([(x - mean) @ axes[:6].T / spread[:6], np.ones(len(x))])
    moves = np.linalg.lstsq(coordinates, w.double().numpy(), rcond=None)[0][:6]
    cosine = np.abs(np.sum(moves * found.components, 1)) / np.linalg.norm(moves, axis=1)
    assert (cosine[:3] > 0.99).all()
    np.testing.assert_allclose(found.sigma, (w.double().numpy() @ found.components.T).std(0), rtol=1e-2)


@pytest.mark.seconds
def test_moving_along_one_moves_the_features_along_its_component(g: Generator) -> None:
    found = fit_activations(g, ActivationConfig(site="act[1]", components=4, samples=1200))
    w = torch.from_numpy(np.concatenate(list(stream_w(g, 200, seed=9))))
    x = features(g, w, "act[1]")
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)

    def moved(direction: torch.Tensor) -> float:
        """How far the features go along the first component, for a step of w of a given length."""
        return float(np.abs(((features(g, w + 0.1 * direction, "act[1]") - x) @ axes[0]).mean()))

    random = torch.nn.functional.normalize(torch.randn(20, g.w_dim, generator=torch.Generator().manual_seed(0)), dim=1)
    assert moved(torch.from_numpy(found.components[0])) > 2 * np.mean([moved(direction) for direction in random])


def test_becomes_a_direction_with_its_site(g: Generator) -> None:
    found = fit_activations(g, ActivationConfig(site="block[2]", components=2, samples=300))
    d = found.direction(1, g.name, g.fingerprint, layers=(0, 3), mode="relative")
    assert d.report["source"] == "block[2]"
    assert d.unit == pytest.approx(float(found.sigma[1]))
    start = torch.zeros(1, g.num_ws, g.w_dim)
    assert d.apply(start, 1.0)[0, 3:].abs().max() == 0


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"site": "act[99]"}, ConfigError, r"k up to 4, got 'act\[99\]'"),
        ({"site": "features"}, ConfigError, "act.k. or block.k."),
        ({"components": 20, "batch": 10}, DataError, "20 components need batches"),
        ({"components": 20, "samples": 30}, DataError, "20 components need"),
    ],
)
def test_what_cannot_be_fitted_is_said(g: Generator, config: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fit_activations(g, ActivationConfig(**{"samples": 200, "components": 2, **config}))


def test_features_that_do_not_vary_are_refused() -> None:
    g = tiny_generator(16)
    g.synthesis.convs[0].affine.weight.zero_()
    with pytest.raises(DataError, match=r"features at act\[0\] vary in 0 directions only"):
        fit_activations(g, ActivationConfig(site="act[0]", components=2, samples=200))


def test_components_are_named_by_what_they_move() -> None:
    latents = np.random.default_rng(0).normal(size=(200, 8))
    d = fit_ganspace(Moments.of(latents), GanSpaceConfig(components=2)).direction(0, "faces", "f" * 64)
    named = named_by(d, {"smile": 0.1, "age": -0.4, "gender": 1.2})
    assert named.positive_means == "gender +1.20, age -0.40"
    assert named.report["moves"] == {"smile": 0.1, "age": -0.4, "gender": 1.2}
    assert named.name == "pca-00"
    assert named_by(d, {"smile": 0.1}).positive_means == "none of the measured attributes"
