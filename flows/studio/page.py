"""The page: Gradio's components, and which action of ``Studio`` each of them calls. Nothing is decided here."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
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
from ganinv.store.names import quoted_id

FARTHEST = 3.0
"""Of a slider, in units of its direction."""
PREVIEW = 900
LASTS = 3600
"""Seconds after which what a visitor had on the desk is forgotten."""
_EMPTY = '<div class="gv-empty">Choose an inversion on the left, or bring a photo of your own.</div>'
_FRAMINGS: dict[str, Framing] = {"Find the face": "face", "Take the middle": "whole"}
_log = logging.getLogger("ganinv.studio")


def build(studio: Studio, folder: str) -> tuple[gr.Blocks, dict[str, Any]]:
    """The page, and its appearance: arguments of ``launch``. ``folder``: for files to be downloaded."""
    return _Page(studio, folder).blocks, {"css": CSS, "theme": _theme()}


Updates = dict[Any, Any]
"""Component -> its new value, as Gradio takes it from an action."""
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_QUIET: dict[str, Any] = {"show_progress": "hidden", **_PRIVATE}


class _Page:
    """The components, by name; the actions that a visitor can take; and which event calls which action.

    A visitor's desk and ids are in the session's state, which starts empty: two visitors have nothing in common.
    """

    def __init__(self, studio: Studio, folder: str) -> None:
        self.studio, self.folder = studio, folder
        self.shelf, self.inverting = studio.shelf, studio.inverting
        self.names = list(self.shelf.directions)
        with gr.Blocks(title="ganinv studio", analytics_enabled=False, delete_cache=(600, LASTS)) as self.blocks:
            self.desk, self.ids = gr.State(None, time_to_live=LASTS), gr.State([], time_to_live=LASTS)
            self.at = gr.State(0)
            place = escape(self.shelf.store.url.rstrip("/").rpartition("/")[2])
            where = f"{place} · {escape(self.shelf.generator.name)}"
            gr.HTML(f'<div class="gv-head"><b>ganinv studio</b><span>{where}</span></div>')
            with gr.Row():
                with gr.Column(scale=4, min_width=340), gr.Tabs():
                    with gr.Tab("Browse"):
                        self._lay_out_browsing()
                    with gr.Tab("Your photo", elem_id="your-photo"):
                        self._lay_out_upload()
                with gr.Column(scale=8, min_width=460):
                    self._lay_out_stage()
            self._connect()

    # The components.

    def _lay_out_browsing(self) -> None:
        self.collection = gr.Dropdown([], label="Inversions", elem_id="collection")
        with gr.Row():
            self.order = gr.Dropdown(["image_id"], value="image_id", label="Sort by", elem_id="order", min_width=140)
            self.descending = gr.Checkbox(label="largest first", elem_id="descending", min_width=90)
        self.conditions = gr.Textbox(
            label="Filter", placeholder="mse < 0.01 and image_id ~ anna", elem_id="filter", max_lines=1
        )
        self.gallery = gr.Gallery(
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
            self.back = gr.Button("‹", size="sm", min_width=40, elem_id="back")
            self.line = gr.HTML(elem_id="line")
            self.forth = gr.Button("›", size="sm", min_width=40, elem_id="forth")

    def _lay_out_upload(self) -> None:
        inverting = self.inverting
        self.framing = gr.Radio(
            list(_FRAMINGS),
            value=list(_FRAMINGS)[0 if dlib_installed() else 1],
            label="What is inverted of it",
            elem_id="framing",
        )
        self.file = gr.File(label="A photo", type="binary", file_types=["image"], height=150, elem_id="file")
        self.file_name = gr.Textbox(visible="hidden", elem_id="file-name")
        self.method = gr.Dropdown(
            [*inverting.at_once, *inverting.on_request],
            value=inverting.default,
            label="Method",
            info=f"At once: {', '.join(inverting.at_once) or 'none here'}. The others take a while.",
            elem_id="method",
        )
        with gr.Row():
            self.invert = gr.Button("Invert", elem_id="invert")
            has_pti = "pti" in inverting.on_request
            self.tune = gr.Button("Refine by pti", variant="primary", elem_id="pti", visible=has_pti)

    def _lay_out_stage(self) -> None:
        titled = [name for name in self.names if not name.startswith(WITHOUT_LABELS)]
        self.stage = gr.HTML(_EMPTY, elem_id="stage")
        self.status = gr.HTML("", elem_id="status")
        self.sliders = _sliders(titled, [name for name in self.names if name not in titled])
        with gr.Row():
            self.reset = gr.Button("Reset", elem_id="reset")
            self.compare = gr.Button("Compare", elem_id="compare")
            self.paste = gr.Button("Paste back", elem_id="paste")
            self.save = gr.Button("Save edit", variant="primary", elem_id="save")
        self.comparison = gr.HTML("", elem_id="comparison")
        self.pasted = gr.HTML("", elem_id="pasted")
        self.download = gr.DownloadButton("Download the whole photo", visible=False, elem_id="download")
        with gr.Accordion("This row", open=False):
            self.row = gr.HTML("", elem_id="facts")

    # Which event calls which action.

    def _connect(self) -> None:
        listing = [self.collection, self.conditions, self.order, self.descending]
        tiles = [self.gallery, self.ids, self.line, self.at, self.status]
        everything = [self.desk, self.stage, self.status, self.row, self.comparison, self.pasted, self.download]
        everything += self.sliders
        edit = [self.desk, *self.sliders]
        told = self._told
        self.blocks.load(told(self.open_page), None, [*listing, *tiles], **_QUIET)
        self.collection.input(
            told(self.other_collection),
            self.collection,
            [self.conditions, self.order, self.descending, *tiles],
            **_PRIVATE,
        )
        relist = [self.conditions.submit, self.order.input, self.descending.input]
        gr.on(relist, told(self.list_again), listing, tiles, **_PRIVATE)
        self.back.click(told(partial(self.turn, -1)), [*listing, self.at], tiles, **_PRIVATE)
        self.forth.click(told(partial(self.turn, 1)), [*listing, self.at], tiles, **_PRIVATE)
        self.gallery.select(told(self.choose), [self.desk, self.collection, self.ids], everything, **_QUIET)
        self.file.upload(None, self.file, self.file_name, js="(f) => f ? (f.orig_name || '') : ''", **_PRIVATE).then(
            told(self.bring),
            [self.desk, self.file, self.framing, self.file_name],
            [*everything, self.method],
            show_progress_on=self.stage,
            **_PRIVATE,
        )
        self.invert.click(
            told(self.by_method),
            [self.desk, self.method, *self.sliders],
            everything,
            show_progress_on=self.stage,
            **_PRIVATE,
        )
        self.tune.click(told(self.by_pti), edit, [*everything, self.method], show_progress_on=self.stage, **_PRIVATE)
        if self.sliders:
            # While a slider is being dragged, only its newest position counts.
            gr.on(
                [slider.input for slider in self.sliders],
                told(self.slide),
                edit,
                [self.stage, self.status],
                trigger_mode="always_last",
                concurrency_limit=4,
                **_QUIET,
            )
        self.reset.click(told(self.to_zero), self.desk, everything, **_QUIET)
        self.compare.click(
            told(self.side_by_side), edit, [self.comparison, self.status], show_progress_on=self.compare, **_PRIVATE
        )
        self.paste.click(
            told(self.put_back),
            edit,
            [self.pasted, self.download, self.status],
            show_progress_on=self.paste,
            **_PRIVATE,
        )
        self.save.click(told(self.keep), edit, [self.desk, self.status], show_progress_on=self.save, **_PRIVATE)

    def _told(self, action: Callable[..., Updates]) -> Callable[..., Updates]:
        """The action, whose errors are shown in the line below the pictures and change nothing else."""

        def guarded(*given: Any) -> Updates:
            try:
                return {self.status: "", **action(*given)}
            except GaninvError as error:
                return {self.status: _line(words(error, self.shelf), "#b45309")}
            except Exception:
                _log.exception("an action of the studio failed")
                return {self.status: _line("That did not work; the log of the server says why.", "#b91c1c")}

        return update_wrapper(guarded, action)  # Gradio reads the signature

    # The actions: browsing.

    def open_page(self) -> Updates:
        there, left = self.shelf.collections(), self.shelf.left_out()
        said = f"of another generator, or without rows yet: {', '.join(left)}" if left else ""
        first = gr.update(choices=there, value=there[0] if there else None, info=said or None)
        return {self.collection: first, **(self._columns_of(there[0]) if there else {})}

    def other_collection(self, name: str | None) -> Updates:
        return {self.conditions: "", self.descending: False, **self._columns_of(name)} if name else {}

    def list_again(self, name: str | None, text: str, by: str, down: bool) -> Updates:
        return self._listed(name, text, by, down, 0) if name else {}

    def turn(self, step: int, name: str | None, text: str, by: str, down: bool, number: int) -> Updates:
        return self._listed(name, text, by, down, number + step) if name else {}

    def choose(self, now: Desk | None, name: str, known: list[str], picked: gr.SelectData) -> Updates:
        return self._fresh(self.studio.choose(now or Desk(), name, known[picked.index]))

    def _columns_of(self, name: str) -> Updates:
        columns = self.shelf.rows(name).schema.names
        order = gr.update(choices=columns, value="image_id")
        return {self.order: order, **self._listed(name, "", "image_id", False, 0)}

    def _listed(self, name: str, text: str, by: str, down: bool, number: int) -> Updates:
        found = self.studio.page(name, text or "", by, down, number)
        tiles = list(zip(self.shelf.thumbnails(name, found.ids), found.captions, strict=True))
        return {
            self.gallery: gr.update(value=tiles, selected_index=None),
            self.ids: list(found.ids),
            self.line: f'<div style="text-align:center">{escape(found.line)}</div>',
            self.at: found.number,
        }

    # The actions: a photo of the visitor's own.

    def bring(self, now: Desk | None, data: bytes | None, how: str, path: str) -> Updates:
        if data is None:
            return {}
        brought = self.studio.bring(now or Desk(), data, path, _FRAMINGS[how])
        return {self.method: self.inverting.default, **self._fresh(brought)}

    def by_method(self, now: Desk | None, name: str, *values: float) -> Updates:
        other = self.studio.invert_by(now or Desk(), name)
        facts_of_row = facts(other.on_table().facts)
        return {
            self.desk: other,
            self.row: facts_of_row,
            **self._clean(),
            **self._shown(other, self._strengths(values)),
        }

    def by_pti(self, now: Desk | None, *values: float) -> Updates:
        return {self.method: "pti", **self.by_method(now, "pti", *values)}

    # The actions: edits.

    def slide(self, now: Desk | None, *values: float) -> Updates:
        return self._shown(now or Desk(), self._strengths(values))

    def to_zero(self, now: Desk | None) -> Updates:
        return {**dict.fromkeys(self.sliders, 0.0), **self._clean(), **self._shown(now or Desk(), {})}

    def side_by_side(self, now: Desk | None, *values: float) -> Updates:
        return {self.comparison: strip(self.studio.compare(now or Desk(), self._strengths(values)), "compare")}

    def put_back(self, now: Desk | None, *values: float) -> Updates:
        whole, data = self.studio.paste(now or Desk(), self._strengths(values))
        image_id = (now or Desk()).on_table().image_id
        # The name cannot be guessed: anyone who knows it may download the file.
        path = Path(self.folder) / secrets.token_hex(16) / f"{quoted_id(image_id)}-edited.png"
        path.parent.mkdir()
        path.write_bytes(data)
        size = f"{whole.width} x {whole.height} pixels"
        small = whole.copy()
        small.thumbnail((PREVIEW, PREVIEW))
        return {
            self.pasted: f'<div class="gv-paste"><img alt="the whole photo" src="{data_uri(small)}"></div>',
            self.download: gr.update(value=str(path), visible=True, label=f"Download the whole photo, {size}"),
        }

    def keep(self, now: Desk | None, *values: float) -> Updates:
        after, said = self.studio.save(now or Desk(), self._strengths(values))
        return {self.desk: after, self.status: _line(said, "#15803d")}

    # What actions share.

    def _strengths(self, values: Sequence[float]) -> Strengths:
        return dict(zip(self.names, map(float, values), strict=True))

    def _shown(self, now: Desk, values: Strengths) -> Updates:
        return {self.stage: strip(self.studio.stage(now, values))}

    def _clean(self) -> Updates:
        return {self.comparison: "", self.pasted: "", self.download: gr.update(visible=False)}

    def _fresh(self, now: Desk) -> Updates:
        """Another subject: all sliders are at 0."""
        return {
            self.desk: now,
            self.row: facts(now.on_table().facts),
            **self._clean(),
            **dict.fromkeys(self.sliders, 0.0),
            **self._shown(now, {}),
        }


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
