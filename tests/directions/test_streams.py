"""Boundaries of samples that are streamed: tails, splits and resamples that belong to ids, memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest

from ganinv.directions.fitting.interfacegan import InterFaceGanConfig, fit_boundary, fit_interfacegan
from ganinv.directions.fitting.samples import Block, SampleDraws
from ganinv.directions.fitting.tails import Tails, select_tails
from ganinv.errors import DataError

DIM = 16


class Stream:
    """Any number of samples, made when they are read, in blocks of any size."""

    def __init__(self, n: int, block: int = 1000, offset: float = 0.0) -> None:
        self.n, self.block, self.offset = n, block, offset

    def blocks(self, attribute: str, *, latents: bool) -> Iterator[Block]:
        for start in range(0, self.n, self.block):
            numbers = np.arange(start, min(start + self.block, self.n))
            drawn = np.concatenate([rows(n)[numbers[numbers // 1000 == n] % 1000] for n in np.unique(numbers // 1000)])
            ids = np.array([f"sample-{i:09d}" for i in numbers])
            yield Block(ids, drawn[:, 2] + 0.5 * drawn[:, -1] + self.offset, drawn[:, :DIM].astype(np.float32))


@lru_cache(maxsize=2)
def rows(thousand: int) -> np.ndarray:
    return np.random.default_rng(thousand).standard_normal((1000, DIM + 1))


def test_tails_of_a_stream_are_those_of_the_whole() -> None:
    """docs/methods/interfacegan.md, check 4: many ties, broken by id, over 1, 4 and 16 partitions in any order."""
    rng = np.random.default_rng(0)
    scores, ids = np.round(rng.normal(size=5000), 1), np.array([f"id-{i:05d}" for i in range(5000)])
    top, bottom = select_tails(scores, ids, 130)
    for parts in (1, 4, 16, 400):
        order = rng.permutation(5000)
        shards = [Tails(130) for _ in range(4)]
        for i, part in enumerate(np.array_split(order, parts)):
            shards[i % 4].add(scores[part], ids[part])
        merged = shards[0].merge(shards[1:])
        assert merged.top[1].tolist() == ids[top].tolist()
        assert merged.bottom[1].tolist() == ids[bottom].tolist()
        np.testing.assert_array_equal(merged.top[0], scores[top])
    few = Tails(10)
    few.add(np.array([1.0, 2.0]), np.array([7, 8]))
    few.add(np.array([]), np.array([], dtype=int))
    assert few.top[1].tolist() == [8, 7]


@pytest.mark.parametrize("estimator", ["svc", "linear-svc", "logistic", "ridge"])
def test_a_stream_gives_what_arrays_give(estimator: str) -> None:
    config = InterFaceGanConfig(estimator=estimator, tails=0.05, bootstrap=2)
    blocks = list(Stream(3000).blocks("smile", latents=True))
    arrays = fit_interfacegan(
        np.concatenate([b.latents for b in blocks]),
        np.concatenate([b.scores for b in blocks]),
        config,
        attribute="smile",
        ids=np.concatenate([b.ids for b in blocks]),
    )
    for size in (1000, 77):
        streamed = fit_boundary(Stream(3000, size), config, attribute="smile")
        assert streamed.vector @ arrays.vector > 1 - 1e-6
        assert streamed.unit == pytest.approx(arrays.unit, rel=1e-5)
        for key in ("k", "samples", "validation_accuracy", "remaining_accuracy"):
            assert streamed.report[key] == arrays.report[key], key
        assert streamed.report["stability"] == pytest.approx(arrays.report["stability"], abs=1e-5)
        assert streamed.report["score"]["std"] == pytest.approx(arrays.report["score"]["std"])
    assert arrays.vector[2] > 0.9
    assert arrays.report["validation_accuracy"] > 0.95
    assert arrays.report["stability"] > 0.85


def test_a_score_far_from_zero_keeps_its_spread() -> None:
    boundary = fit_boundary(Stream(2000, offset=1e8), InterFaceGanConfig(tails=0.1, bootstrap=0), attribute="year")
    assert boundary.report["score"]["std"] == pytest.approx(1.12, abs=0.05)
    assert boundary.vector[2] > 0.9


@pytest.mark.seconds
@pytest.mark.parametrize("estimator", ["svc", "ridge"])
def test_memory_does_not_grow_with_the_samples(estimator: str) -> None:
    peaks = []
    for n in (5000, 20000):
        tracemalloc.start()
        config = InterFaceGanConfig(estimator=estimator, tails=200, bootstrap=1)
        fit_boundary(Stream(n), config, attribute="smile")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_draws_belong_to_ids() -> None:
    draws = SampleDraws(3, "split")
    ids = np.array([f"a{i}" for i in range(20_000)])
    uniform = draws.uniform(ids, 2)
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(uniform.T)[0, 1]) < 0.03
    np.testing.assert_array_equal(draws.uniform(ids[::-1][:5], 2), uniform[::-1][:5])
    assert not np.array_equal(SampleDraws(4, "split").uniform(ids, 2), uniform)
    counts = draws.poisson(ids, 3)
    assert counts.mean() == pytest.approx(1, abs=0.03)
    assert counts.var() == pytest.approx(1, abs=0.05)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_ridge_says_when_there_are_too_many_dimensions() -> None:
    rng = np.random.default_rng(0)
    config = InterFaceGanConfig(estimator="ridge", tails=0.4, bootstrap=0)
    with pytest.raises(DataError, match="'smile': ridge takes up to 4096 dimensions, these latents have 4097"):
        fit_interfacegan(rng.normal(size=(50, 4097)), rng.normal(size=50), config, attribute="smile")


def test_codes_in_w_plus_are_fitted_flat() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2000, 6, 8)).astype(np.float32)
    scores = w[:, 2, 3] + 0.5 * w[:, 4, 1]
    boundary = fit_interfacegan(w, scores, InterFaceGanConfig(tails=0.2, bootstrap=0), attribute="smile")
    direction = boundary.direction("faces", "f" * 64, space="w+", rows=6)
    assert direction.vector.shape == (6, 8)
    assert np.linalg.norm(direction.vector) == pytest.approx(1, abs=1e-6)
    assert direction.vector[2, 3] == pytest.approx(0.894, abs=0.05)
    assert direction.vector[4, 1] == pytest.approx(0.447, abs=0.08)


def test_ten_positives_are_too_few_and_it_says_so() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(1000) < 10).astype(float)
    with pytest.raises(DataError, match=r"'glasses'.*only 10 samples score above 0.*rarer than the tails"):
        fit_interfacegan(rng.normal(size=(1000, 8)), labels, InterFaceGanConfig(tails=0.1), attribute="glasses")
