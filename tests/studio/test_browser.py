"""The studio in a real browser, Chromium: upload, slide, compare, refine, paste, save, by two visitors at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.studio.serving import serving
from ganinv.store import open_store
from tests.chaos.processes import free_port

from .conftest import portrait

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 400_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("gradio")
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # Its own sandbox needs rights that root in a container does not have; the page is ours.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Visitor:
    """A browser window, and what went wrong in it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.wrong: list[str] = []
        self.page = browser.new_context(viewport={"width": 1360, "height": 1000}).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("response", lambda r: self.wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.on(
            "request", lambda r: self.wrong.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None
        )
        self.page.goto(address)

    def pictures(self, where: str = "#stage") -> list[str]:
        """The sources of all pictures."""
        found: list[str] = self.page.eval_on_selector_all(f"{where} img", "all => all.map(each => each.src)")
        return found

    def until(self, where: str, text: str) -> None:
        ask = "([where, text]) => document.querySelector(where)?.innerText.includes(text)"
        self.page.wait_for_function(ask, arg=[where, text])

    def slide(self, name: str, strength: float) -> None:
        self.page.locator(f"#slide-{name} input[type=range]").fill(str(strength))
        self.until("#stage", f"{name} {strength:+g}")


def test_upload_slide_compare_save(browser: Any, place: Path, tmp_path: Path) -> None:
    from flows.studio.opening import open_studio

    files = [tmp_path / "anna.jpg", tmp_path / "bert.jpg"]
    for file, flip in zip(files, (False, True), strict=True):
        file.write_bytes(portrait(flip))
    notes = tmp_path / "notes.jpg"
    notes.write_text("no picture at all")
    with serving(open_studio(str(place)), port=free_port()) as address:
        one, other = Visitor(browser, address), Visitor(browser, address)

        one.page.wait_for_selector("#gallery img")  # browse
        one.page.locator("#filter textarea, #filter input").fill("image_id ~ portrait")
        one.page.keyboard.press("Enter")
        one.until("#line", "1 to 2 of 2")
        one.page.locator("#gallery button.thumbnail-item, #gallery .grid-container button").first.click()
        one.until("#stage", "portrait-astronaut")
        before = one.pictures()
        one.slide("mood", 2)
        after = one.pictures()
        assert after[:2] == before[:2]
        assert after[2] != before[2] == before[1]
        one.page.click("#compare")
        one.until("#comparison", "sfe-refined")
        assert len(one.pictures("#comparison")) == 3
        one.page.click("#save")
        one.until("#status", "Saved mood +2 of portrait-astronaut")

        for visitor, file in zip((one, other), files, strict=True):  # both bring a photo
            visitor.page.get_by_role("tab", name="Your photo").click()
            visitor.page.set_input_files("#file input[type=file]", file)
        for visitor, name in ((one, "anna-"), (other, "bert-")):
            visitor.until("#stage", name)
        assert not set(one.pictures()) & set(other.pictures())
        assert "anna" not in other.page.inner_text("body")
        one.slide("mood", -1.5)
        assert "move a slider" in other.page.inner_text("#stage")
        one.page.click("#paste")
        with one.page.expect_download() as coming:
            one.page.click("#download")
        assert coming.value.suggested_filename.startswith("anna-")
        assert Path(coming.value.path()).read_bytes().startswith(b"\x89PNG")
        one.page.click("#pti")
        one.until("#stage", "Inversion by pti")
        one.page.click("#save")
        one.until("#status", "Saved mood -1.5 of anna-")
        other.page.locator(
            "#file button[aria-label='Remove this file'], #file button[aria-label='Clear']"
        ).first.click()
        other.page.set_input_files("#file input[type=file]", notes)
        other.until("#status", "the file is none of")
        other.until("#stage", "bert-")
        one.page.screenshot(path=tmp_path / "studio.png", full_page=True)
        assert one.wrong == []
        assert other.wrong == []
    store = open_store(str(place))
    assert store.edits["studio-e4e"].read()["edit"].to_pylist() == ["mood@1=2"]
    assert store.edits["studio-pti"].read()["edit"].to_pylist() == ["mood@1=-1.5"]
    assert store.latents["studio-pti"].read().num_rows == 1
