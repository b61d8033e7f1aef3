"""The whole report: what it says is what the store holds, whatever is missing, whatever the names are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ganinv.config import validate
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.report import ReportRequest, write_report
from ganinv.report.words import number
from ganinv.store import Store

from .page import Page
from .stocked import (
    ERRORS,
    FAILED,
    NASTY,
    add_edits,
    add_inversions,
    add_samples,
    add_training,
    empty_store,
    sources,
    stocked,
    tiny_generator,
)

LATENTS = tuple(f"set-{method}" for method in ERRORS)
FULL = ReportRequest(
    samples="set", latents=LATENTS, edits="set-edits", training="e4e", title=f"Portraits {NASTY}", max_strips=6
)


pytestmark = pytest.mark.seconds  # the page that they look at is made in three


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def store(generator: Generator) -> Store:
    return stocked(generator)


@pytest.fixture(scope="module")
def html(store: Store, generator: Generator) -> bytes:
    return write_report(store, generator, FULL, sources(generator))


@pytest.fixture(scope="module")
def page(html: bytes) -> Page:
    return Page(html)


def test_all_sections_are_there_in_order(page: Page) -> None:
    assert page.ids() == [
        "overview",
        "side-by-side",
        "methods",
        "distributions",
        "edits",
        "directions",
        "samples",
        "training",
        "errors",
        "provenance",
    ]


def test_nothing_is_fetched_and_nothing_runs(html: bytes, page: Page) -> None:
    names = [name for name, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "base", "form"}.intersection(names)
    for _, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "xlink:href", "srcset", "action"):
                assert value is not None
                assert value.startswith(("#", "data:image/"))
    assert not re.search(rb"url\((?!#)", html)
    assert b"@import" not in html


def test_names_and_messages_are_text(html: bytes, page: Page) -> None:
    assert b"<script>" not in html
    assert f"Portraits {NASTY}" in page.text
    assert f"the loss of {NASTY} is NaN" in page.text
    assert "more smile <b>" in page.text


def test_ids_of_elements_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("method", ERRORS)
@pytest.mark.parametrize("measure", ["mse", "psnr", "ssim", "distance"])
def test_means_equal_the_store(store: Store, page: Page, method: str, measure: str) -> None:
    table = store.metrics[f"set-{method}"].read(["image_id", measure])
    values = np.array(table[measure].to_pylist())
    value, shown = page.cells["all", method, measure]
    assert value == pytest.approx(values.mean(), rel=1e-12)
    assert shown == number(values.mean())
    assert page.cells["all", method, "n"][0] == len(values)
    common = np.array([i.as_py() != FAILED for i in table["image_id"]])
    assert page.cells["common", method, measure][0] == pytest.approx(values[common].mean(), rel=1e-12)


def test_seconds_equal_the_store(store: Store, page: Page) -> None:
    timings = store.latents["set-pti"].timings()
    assert page.cells["all", "pti", "seconds"][0] == pytest.approx(np.mean(timings["seconds"].to_pylist()))


def test_a_measure_without_numbers_has_no_column(page: Page) -> None:
    assert not any(measure == "ms_ssim" for _, _, measure in page.cells)


def test_the_best_is_marked_only_among_the_same_images(html: bytes) -> None:
    every = html.decode().split('data-images="all"')[1].split("</table>")[0]
    common = html.decode().split('data-images="common"')[1].split("</table>")[0]
    assert 'class="best"' not in every
    best = re.findall(r'data-measure="(\w+)" data-value="[^"]*" class="best"', common.replace("\n", " "))
    assert sorted(best) == ["distance", "mse", "psnr", "seconds", "ssim"]


def test_the_order_of_methods_is_counted(page: Page) -> None:
    assert "MSE pti < w-plus-optimisation < e4e < w-projection holds on 13 of 13 images (100%)." in page.text


def test_a_failed_image_is_listed_with_its_reason(page: Page) -> None:
    errors = page.text.split("Rows that failed")[1]
    assert FAILED in errors
    assert "not_finite" in errors


def test_settings_stand_beside_the_numbers(page: Page) -> None:
    assert "Protocol inversion-2" in page.text
    assert "distance: embedded" in page.text
    assert "generated, not real people" in page.text


def test_edits_follow_their_strength(page: Page) -> None:
    assert "13 of 13 images (100 %) rise in smile" in re.sub(r"\s+", " ", page.text)
    assert "deviations of that score over the samples" in re.sub(r"\s+", " ", page.text)


def test_the_same_store_gives_the_same_bytes(html: bytes, store: Store, generator: Generator) -> None:
    assert write_report(store, generator, FULL, sources(generator)) == html


def test_it_stays_small(html: bytes) -> None:
    assert len(html) < 3_000_000


def test_an_empty_store_gives_a_page_that_says_so(generator: Generator) -> None:
    page = Page(write_report(empty_store(), generator, FULL, sources(generator)))
    assert page.ids() == ["overview", "provenance"]
    assert "The collection latents/set-pti is not in the store" in page.text


def test_nothing_asked_for_gives_a_page(generator: Generator) -> None:
    page = Page(write_report(empty_store(), generator, ReportRequest(title="Nothing"), sources(generator)))
    assert page.ids() == ["overview", "provenance"]


@pytest.mark.parametrize(
    ("fill", "request_", "sections"),
    [
        (add_samples, {"samples": "set"}, ["samples"]),
        (lambda store, _: add_training(store), {"training": "e4e"}, ["training"]),
        (
            lambda store, g: add_inversions(store, g, "e4e"),
            {"latents": ("set-e4e",)},
            ["side-by-side", "methods", "distributions"],
        ),
    ],
    ids=["samples", "training", "one method"],
)
def test_a_part_alone_is_a_report(
    generator: Generator, fill: Any, request_: dict[str, Any], sections: list[str]
) -> None:
    store = empty_store()
    fill(store, generator)
    page = Page(write_report(store, generator, ReportRequest(title="One", **request_), sources(generator)))
    assert page.ids() == ["overview", *sections, "provenance"]


def test_without_an_evaluation_the_methods_own_numbers_are_shown(generator: Generator) -> None:
    store = empty_store()
    add_inversions(store, generator, "e4e")
    own = np.mean(store.latents["set-e4e"].read(["mse"])["mse"].to_pylist())
    store.metrics["set-e4e"].remove()
    page = Page(write_report(store, generator, ReportRequest(title="Own", latents=("set-e4e",)), sources(generator)))
    assert page.cells["all", "e4e", "mse"][0] == pytest.approx(own)
    assert "was not evaluated" in page.text


def test_a_method_that_failed_on_every_image_is_listed(generator: Generator) -> None:
    store = empty_store()
    add_inversions(store, generator, "pti", [FAILED])
    add_inversions(store, generator, "e4e", [FAILED, "image-01"])
    request = ReportRequest(title="Failed", latents=("set-pti", "set-e4e"))
    page = Page(write_report(store, generator, request, sources(generator)))
    assert page.cells["all", "pti", "n"][0] == 0
    assert page.cells["all", "e4e", "n"][0] == 2
    assert "Not inverted by every method" in page.text
    assert "errors" in page.ids()


def test_damaged_extras_are_a_reason_in_the_strip(generator: Generator) -> None:
    store = empty_store()
    add_inversions(store, generator, "pti")
    store.objects.put("latents/set-pti/extras/image-00.safetensors", b"damaged")
    request = ReportRequest(title="Damaged", latents=("set-pti",), max_strips=20)
    page = Page(write_report(store, generator, request, sources(generator)))
    assert page.text.count("is not what its row recorded") == 1


def test_edits_without_scores_are_pictures(generator: Generator) -> None:
    store = empty_store()
    add_inversions(store, generator, "e4e")
    add_edits(store, generator, "e4e")
    store.collection("edit-metrics", "set-edits").remove()
    page = Page(write_report(store, generator, ReportRequest(title="Edits", edits="set-edits"), sources(generator)))
    assert "edits" in page.ids()
    assert "unedited" in page.text
    assert "Side effects" not in page.text


def test_a_source_that_cannot_be_read_does_not_take_the_others_with_it(store: Store, generator: Generator) -> None:
    good = sources(generator)

    def some(ids: Sequence[str]) -> dict[str, np.ndarray]:
        if "image-03" in ids:
            raise DataError("image-03 is cut off")
        return good(ids)

    request = ReportRequest(title="Sources", latents=("set-e4e",), max_strips=20)
    page = Page(write_report(store, generator, request, some))
    assert page.text.count("the source image cannot be read") == 1


def test_another_generator_is_said(store: Store) -> None:
    other = tiny_generator()
    with_other = other.synthesis.const
    with_other.data += 1
    other._fingerprint = None
    page = Page(write_report(store, other, ReportRequest(title="Other", latents=("set-e4e",)), sources(other)))
    assert "was made with another generator" in page.text


def test_a_wrong_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="latents"):
        validate(ReportRequest, {"title": "x", "latent": ["a"]}, "request")
