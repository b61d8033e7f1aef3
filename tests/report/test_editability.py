"""Curves of similarity along an edit, from made-up measurements whose curves are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ganinv.directions.direction import Direction
from ganinv.errors import DataError
from ganinv.report.editability import EditCurve, common_range, read_curves
from ganinv.report.editability_page import editability_page
from ganinv.store import Plan, Store
from tests.report.stocked import empty_store

STRENGTHS = np.linspace(-2, 2, 5)
IDS = [f"image-{k}" for k in range(8)]


def fill(store: Store, method: str, gain: float, kept: float, units: int = 1, **header: str) -> None:
    """An edit that changes the score by ``gain`` standard deviations (of 2.0) per strength, and leaves ``kept`` of the
    similarity of 0.9 per standard deviation."""
    made_by = {
        "generator_name": "g",
        "generator_fingerprint": "f" * 64,
        "method": method,
        "similarity_name": "embedded",
    }
    plan = {"edits": [{"name": "smile", "directions": {"smile(0-3)": 1.0}}], "direction_versions": {"smile": 1}}
    size = len(IDS) // units
    store.edits[method].start(Plan.of("edit", plan, made_by, IDS, size))
    collection = store.collection("edit-metrics", method)
    collection.start(Plan.of("evaluate", {"of": method}, made_by | header, IDS, size))
    rng = np.random.default_rng(0)
    start = dict(zip(IDS, rng.normal(size=len(IDS)), strict=True))
    wobble = dict(zip(IDS, rng.normal(0, 0.01, len(IDS)), strict=True))
    for unit in collection.plan().units:
        rows = []
        for image_id in unit.ids:
            for strength in STRENGTHS:
                change = gain * strength
                similarity = 0.9 * kept ** abs(change) + wobble[image_id]
                scores = {"score_smile_before": start[image_id], "score_smile": start[image_id] + 2.0 * change}
                alike = {"similarity_to_source": similarity, "similarity_to_inversion": kept ** abs(change)}
                rows.append({"image_id": image_id, "edit": "smile", "strength": strength, **scores, **alike})
        collection.write_part(unit.index, pa.Table.from_pylist(rows), [], {})
    collection.finish()


@pytest.fixture
def store() -> Store:
    store = empty_store()
    calibration = {"attribute": "smile", "score_std": 2.0}
    report = {"calibration": calibration}
    store.directions.put(Direction("smile", np.eye(4)[0], "w", "g", "f" * 64, "test", report=report))
    fill(store, "pti", gain=1.0, kept=0.8)
    fill(store, "e4e", gain=1.5, kept=0.7)
    return store


def curves_of(store: Store, *methods: str) -> list[EditCurve]:
    return read_curves(store, {name: store.collection("edit-metrics", name) for name in methods})


def test_methods_are_read_at_the_change_that_they_obtained(store: Store) -> None:
    pti, e4e = curves_of(store, "pti", "e4e")
    assert (pti.attribute, pti.scale) == ("smile", "the generator's samples")
    for curve, gain, kept in ((pti, 1.0, 0.8), (e4e, 1.5, 0.7)):
        change, similarity = curve.mean()
        np.testing.assert_allclose(change, gain * STRENGTHS, atol=1e-5)
        np.testing.assert_allclose(
            similarity - curve.to_source[:, 2].mean(), 0.9 * kept ** np.abs(change) - 0.9, atol=1e-5
        )
        assert curve.at(gain) == pytest.approx(similarity[3])
        assert curve.at(-gain / 2) == pytest.approx((similarity[1] + similarity[2]) / 2)
    # At one step e4e has lost more, and has also changed more: at an equal change the order is what was put in.
    assert e4e.at(1.5) < pti.at(1.5)
    assert common_range([pti, e4e]) == pytest.approx((-2.0, 2.0))
    assert e4e.area(-2, 2) < pti.area(-2, 2)


def test_nothing_is_extrapolated(store: Store) -> None:
    (pti,) = curves_of(store, "pti")
    assert np.isnan(pti.at(2.01))
    assert np.isnan(pti.area(-3, 1))
    assert np.isnan(pti.interval(lambda curve: curve.at(2.5))).all()
    low, high = pti.interval(lambda curve: curve.at(1.0))
    assert low < pti.at(1.0) < high < low + 0.05


def test_an_editor_that_changes_nothing() -> None:
    """docs/methods/editing-evaluation.md, check 1."""
    none, whole = np.zeros((3, 5)), np.ones((3, 5))
    still = EditCurve("still", "smile", "smile", STRENGTHS, none, whole, whole)
    assert still.reach() == (0.0, 0.0)
    assert still.at(0.0) == 1.0
    assert np.isnan([still.at(0.1), still.area(-1, 1)]).all()


def test_a_score_that_falls_back_ends_the_curve() -> None:
    change = np.array([[-1.0, -2.0, 0.0, 1.0, 0.5]])
    curve = EditCurve("m", "e", "a", STRENGTHS, change, np.array([[0.1, 0.2, 0.9, 0.6, 0.3]]), np.ones((1, 5)))
    assert [list(part) for part in curve.path()] == [[-2.0, 0.0, 1.0], [0.2, 0.9, 0.6]]


def test_swapping_the_sign_mirrors_the_curve(store: Store) -> None:
    """docs/methods/editing-evaluation.md, check 8: of the attribute; that of the direction alone changes nothing."""
    (one,) = curves_of(store, "e4e")
    against = replace(one, change=-one.change)
    turned = replace(one, change=one.change[:, ::-1], to_source=one.to_source[:, ::-1])
    for x in (-1.2, 0.0, 0.3, 2.0):
        assert against.at(-x) == pytest.approx(one.at(x))
        assert turned.at(x) == pytest.approx(one.at(x))


def test_the_partition_does_not_matter(store: Store) -> None:
    """docs/methods/editing-evaluation.md, check 6."""
    (one,) = curves_of(store, "pti")
    for units in (4, 8):
        other = empty_store()
        other.directions.put(store.directions.get("smile", version=1))
        fill(other, "pti", gain=1.0, kept=0.8, units=units)
        (many,) = curves_of(other, "pti")
        assert np.array_equal(one.change, many.change)
        assert np.array_equal(one.to_source, many.to_source)


@pytest.mark.seconds
def test_the_page(store: Store) -> None:
    files = editability_page(curves_of(store, "pti", "e4e"), "embedded")
    assert sorted(files) == ["editability-smile.svg", "editability.md"]
    page, svg = files["editability.md"], files["editability-smile.svg"]
    assert "**It is not an identity**" in page
    row = next(line for line in page.splitlines() if line.startswith("| pti |"))
    assert len(row.split("|")) == len(
        next(line for line in page.splitlines() if line.startswith("| method")).split("|")
    )
    assert "8 images per" in page
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "var(" not in svg
    assert "pti" in svg


def test_mistakes_are_explained(store: Store) -> None:
    fill(store, "other", gain=1.0, kept=0.9, similarity_name="arcface-ir-se50")
    with pytest.raises(DataError, match="similarities of different networks cannot be compared"):
        curves_of(store, "pti", "other")
    plan = Plan.of("evaluate", {}, {"method": "x"}, IDS, 8)
    store.collection("edit-metrics", "bare").start(plan)
    with pytest.raises(DataError, match="evaluated without a similarity: evaluate them with --similarity embedded"):
        curves_of(store, "bare")
