"""The page: Gradio's components, and which action of ``Studio`` each of them calls. Nothing is decided here."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from flows.studio.desk import Desk, Studio
from flows.studio.pictures import CSS, data_uri, facts, strip
from flows.studio.saving import words
from flows.studio.shelf import WITHOUT_LABELS
from flows.studio.subject import Strengths
from flows.studio.upload import Framing
from ganinv.errors import GaninvError
from ganinv.faces.dlib68 import dlib_installed

FARTHEST = 3.0
"""Of a slider, in units of its direction."""
PREVIEW = 900
LASTS = 3600
"""Seconds after which what a visitor had on the desk is forgotten."""
_EMPTY = '<div class="gv-empty">Choose an inversion on the left, or bring a photo of your own.</div>'
_FRAMINGS: dict[str, Framing] = {"Find the face": "face", "Take the middle": "whole"}
_log = logging.getLogger("ganinv.studio")


def build(studio: Studio, folder: str) -> tuple[gr.Blocks, dict[str, Any]]:
    """The page, and what it looks like: arguments of ``launch``. ``folder``: for files that are downloaded."""
    shelf, inverting = studio.shelf, studio.inverting
    names = list(shelf.directions)
    titled = [name for name in names if not name.startswith(WITHOUT_LABELS)]
    # A visitor's desk is in the session's state, which starts empty: two visitors have nothing in common.
    private: dict[str, Any] = {"api_visibility": "private"}

    with gr.Blocks(title="ganinv studio", analytics_enabled=False, delete_cache=(600, LASTS)) as page:
        desk, ids = gr.State(None, time_to_live=LASTS), gr.State([], time_to_live=LASTS)
        place = escape(shelf.store.url.rstrip("/").rpartition("/")[2])
        gr.HTML(f'<div class="gv-head"><b>ganinv studio</b><span>{place} · {escape(shelf.generator.name)}</span></div>')
        with gr.Row():
            with gr.Column(scale=4, min_width=340), gr.Tabs():
                with gr.Tab("Browse"):
                    collection = gr.Dropdown([], label="Inversions", elem_id="collection")
                    with gr.Row():
                        order = gr.Dropdown(
                            ["image_id"], value="image_id", label="Sort by", elem_id="order", min_width=140
                        )
                        descending = gr.Checkbox(label="largest first", elem_id="descending", min_width=90)
                    conditions = gr.Textbox(
                        label="Filter", placeholder="mse < 0.01 and image_id ~ anna", elem_id="filter", max_lines=1
                    )
                    gallery = gr.Gallery(
                        columns=3,
                        show_label=False,
                        allow_preview=False,
                        object_fit="cover",
                        height="auto",
                        elem_id="gallery",
                        interactive=False,
                        buttons=[],
                    )
                    with gr.Row():
                        back = gr.Button("‹", size="sm", min_width=40, elem_id="back")
                        line = gr.HTML(elem_id="line")
                        forth = gr.Button("›", size="sm", min_width=40, elem_id="forth")
                    at = gr.State(0)
                with gr.Tab("Your photo", elem_id="your-photo"):
                    framing = gr.Radio(
                        list(_FRAMINGS),
                        value=list(_FRAMINGS)[0 if dlib_installed() else 1],
                        label="What is inverted of it",
                        elem_id="framing",
                    )
                    file = gr.File(label="A photo", type="binary", file_types=["image"], height=150, elem_id="file")
                    method = gr.Dropdown(
                        [*inverting.at_once, *inverting.on_request],
                        value=inverting.default,
                        label="Method",
                        info=f"At once: {', '.join(inverting.at_once) or 'none here'}. The others take a while.",
                        elem_id="method",
                    )
                    with gr.Row():
                        again = gr.Button("Invert", elem_id="invert")
                        tune = gr.Button(
                            "Refine by pti", variant="primary", elem_id="pti", visible="pti" in inverting.on_request
                        )
            with gr.Column(scale=8, min_width=460):
                stage = gr.HTML(_EMPTY, elem_id="stage")
                status = gr.HTML("", elem_id="status")
                sliders = _sliders(titled, [name for name in names if name not in titled])
                with gr.Row():
                    reset = gr.Button("Reset", elem_id="reset")
                    compare = gr.Button("Compare", elem_id="compare")
                    paste = gr.Button("Paste back", elem_id="paste")
                    save = gr.Button("Save edit", variant="primary", elem_id="save")
                comparison = gr.HTML("", elem_id="comparison")
                pasted = gr.HTML("", elem_id="pasted")
                download = gr.DownloadButton("Download the whole photo", visible=False, elem_id="download")
                with gr.Accordion("This row", open=False):
                    row = gr.HTML("", elem_id="facts")

        everything = [desk, stage, status, row, comparison, pasted, download, *sliders]
        clean: dict[Any, Any] = {comparison: "", pasted: "", download: gr.update(visible=False)}
        listing = [collection, conditions, order, descending]

        def told(action: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
            """Errors are shown in the line below the pictures, and change nothing else."""

            @wraps(action)
            def guarded(*given: Any) -> dict[Any, Any]:
                try:
                    return {status: "", **action(*given)}
                except GaninvError as error:
                    return {status: _line(words(error, shelf), "#b45309")}
                except Exception:
                    _log.exception("an action of the studio failed")
                    return {status: _line("That did not work; the log of the server says why.", "#b91c1c")}

            return guarded

        def strengths(values: Sequence[float]) -> Strengths:
            return dict(zip(names, map(float, values), strict=True))

        def shown(now: Desk, values: Strengths) -> dict[Any, Any]:
            return {stage: strip(studio.stage(now, values))}

        def fresh(now: Desk) -> dict[Any, Any]:
            """Another subject: sliders are at 0."""
            return {
                desk: now,
                row: facts(now.on_table().facts),
                **clean,
                **dict.fromkeys(sliders, 0.0),
                **shown(now, {}),
            }

        @told
        def open_page() -> dict[Any, Any]:
            there, left = shelf.collections(), shelf.left_out()
            said = f"of another generator, or without rows yet: {', '.join(left)}" if left else ""
            first = gr.update(choices=there, value=there[0] if there else None, info=said or None)
            return {collection: first, **(columns_of(there[0]) if there else {})}

        def columns_of(name: str) -> dict[Any, Any]:
            columns = shelf.rows(name).schema.names
            return {
                order: gr.update(choices=columns, value="image_id"),
                at: 0,
                **listed(name, "", "image_id", False, 0),
            }

        def listed(name: str, text: str, by: str, down: bool, number: int) -> dict[Any, Any]:
            found = studio.page(name, text or "", by, down, number)
            small = shelf.thumbnails(name, found.ids)
            tiles = list(zip(small, found.captions, strict=True))
            return {
                gallery: gr.update(value=tiles, selected_index=None),
                ids: list(found.ids),
                line: f'<div style="text-align:center">{escape(found.line)}</div>',
                at: found.number,
            }

        @told
        def list_again(name: str | None, text: str, by: str, down: bool) -> dict[Any, Any]:
            return listed(name, text, by, down, 0) if name else {}

        @told
        def other_collection(name: str | None) -> dict[Any, Any]:
            return {conditions: "", descending: False, **columns_of(name)} if name else {}

        def turn(step: int) -> Callable[..., dict[Any, Any]]:
            @told
            def turned(name: str | None, text: str, by: str, down: bool, number: int) -> dict[Any, Any]:
                return listed(name, text, by, down, number + step) if name else {}

            return turned

        @told
        def choose(now: Desk | None, name: str, known: list[str], picked: gr.SelectData) -> dict[Any, Any]:
            return fresh(studio.choose(now or Desk(), name, known[picked.index]))

        @told
        def bring(now: Desk | None, data: bytes | None, how: str, path: str) -> dict[Any, Any]:
            if data is None:
                return {}
            brought = studio.bring(now or Desk(), data, path, _FRAMINGS[how])
            return {method: inverting.default, **fresh(brought)}

        def inverted(now: Desk | None, name: str, values: Sequence[float]) -> dict[Any, Any]:
            other = studio.invert_by(now or Desk(), name)
            return {desk: other, row: facts(other.on_table().facts), **clean, **shown(other, strengths(values))}

        @told
        def by_method(now: Desk | None, name: str, *values: float) -> dict[Any, Any]:
            return inverted(now, name, values)

        @told
        def by_pti(now: Desk | None, *values: float) -> dict[Any, Any]:
            return {method: "pti", **inverted(now, "pti", values)}

        @told
        def slide(now: Desk | None, *values: float) -> dict[Any, Any]:
            return shown(now or Desk(), strengths(values))

        @told
        def to_zero(now: Desk | None) -> dict[Any, Any]:
            return {**dict.fromkeys(sliders, 0.0), **clean, **shown(now or Desk(), {})}

        @told
        def side_by_side(now: Desk | None, *values: float) -> dict[Any, Any]:
            return {comparison: strip(studio.compare(now or Desk(), strengths(values)), "compare")}

        @told
        def put_back(now: Desk | None, *values: float) -> dict[Any, Any]:
            whole, data = studio.paste(now or Desk(), strengths(values))
            image_id = (now or Desk()).on_table().image_id
            # Under a name that nobody guesses: who knows it may have it.
            path = Path(folder) / secrets.token_hex(16) / f"{image_id}-edited.png"
            path.parent.mkdir()
            path.write_bytes(data)
            size = f"{whole.width} x {whole.height} pixels"
            small = whole.copy()
            small.thumbnail((PREVIEW, PREVIEW))
            return {
                pasted: f'<div class="gv-paste"><img alt="the whole photo" src="{data_uri(small)}"></div>',
                download: gr.update(value=str(path), visible=True, label=f"Download the whole photo, {size}"),
            }

        @told
        def keep(now: Desk | None, *values: float) -> dict[Any, Any]:
            after, said = studio.save(now or Desk(), strengths(values))
            return {desk: after, status: _line(said, "#15803d")}

        quiet: dict[str, Any] = {"show_progress": "hidden", **private}
        page.load(open_page, None, [*listing, gallery, ids, line, at, status], **quiet)
        tiles = [gallery, ids, line, at, status]
        collection.input(other_collection, collection, [conditions, order, descending, *tiles], **private)
        gr.on([conditions.submit, order.input, descending.input], list_again, listing, tiles, **private)
        back.click(turn(-1), [*listing, at], tiles, **private)
        forth.click(turn(1), [*listing, at], tiles, **private)
        gallery.select(choose, [desk, collection, ids], everything, **quiet)
        name_of = gr.Textbox(visible="hidden", elem_id="file-name")
        file.upload(None, file, name_of, js="(f) => f ? (f.orig_name || '') : ''", **private).then(
            bring, [desk, file, framing, name_of], [*everything, method], show_progress_on=stage, **private
        )
        again.click(by_method, [desk, method, *sliders], everything, show_progress_on=stage, **private)
        tune.click(by_pti, [desk, *sliders], [*everything, method], show_progress_on=stage, **private)
        if sliders:
            moved = [slider.input for slider in sliders]
            # While a slider is being dragged, only its newest position counts.
            gr.on(
                moved,
                slide,
                [desk, *sliders],
                [stage, status],
                trigger_mode="always_last",
                concurrency_limit=4,
                **quiet,
            )
        reset.click(to_zero, desk, everything, **quiet)
        compare.click(side_by_side, [desk, *sliders], [comparison, status], show_progress_on=compare, **private)
        paste.click(put_back, [desk, *sliders], [pasted, download, status], show_progress_on=paste, **private)
        save.click(keep, [desk, *sliders], [desk, status], show_progress_on=save, **private)
    return page, {"css": CSS, "theme": _theme()}


def _sliders(titled: Sequence[str], others: Sequence[str]) -> list[gr.Slider]:
    """One for each direction, in the order of the names."""
    made: list[gr.Slider] = []
    look: dict[str, Any] = {"step": 0.1, "min_width": 150, "buttons": ["reset"]}

    def slider(name: str) -> gr.Slider:
        return gr.Slider(-FARTHEST, FARTHEST, 0.0, label=name, elem_id=f"slide-{name}", **look)

    def rows_of(some: Sequence[str], each: int = 3) -> None:
        for first in range(0, len(some), each):
            with gr.Row():
                here = [slider(name) for name in some[first : first + each]]
                for _ in range(each - len(here)):  # so that all are of one width
                    gr.HTML("", min_width=150)
                made.extend(here)

    rows_of(titled)
    if others:
        with gr.Accordion(f"{len(others)} directions without a name of their own", open=False):
            rows_of(others)
    return made


def _line(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{escape(text)}</span>'


def _theme() -> gr.Theme:
    """Fonts of the visitor's own machine: a studio on a machine without a way out looks the same."""
    plain = ["ui-sans-serif", "system-ui", "sans-serif"]
    return gr.themes.Soft(
        primary_hue="indigo", neutral_hue="slate", font=plain, font_mono=["ui-monospace", "monospace"]
    )
