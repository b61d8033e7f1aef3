"""Strips of edited images: strengths from negative to positive, with the unedited image in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ganinv.report.edit_curves import EffectCurve, EffectCurves
from ganinv.report.images import ReaderOf, SourceImages, read_codes, read_sources, render_rows
from ganinv.report.inversions import floats, read_columns
from ganinv.report.strips import Cell, Strip
from ganinv.report.words import number, signed, walk
from ganinv.store import Collection, Store

MOST_STRENGTHS = 7
MOST_ROWS = 6
MOST_EDITS = 20
MOST_IMAGES = 180
"""Largest number of edited images in a report, over all edits: they are most of its bytes."""

Rendered = Mapping[tuple[str, float], tuple[str | None, str]]


@dataclass(frozen=True)
class EditStrips:
    """One edit: column headings, and a strip for each image."""

    edit: str
    headings: tuple[str, ...]
    strips: tuple[Strip, ...]


def edit_strips(
    reader_of: ReaderOf,
    resolution: int,
    collection: Collection,
    unedited: Collection | None,
    source_images: SourceImages,
    effects: EffectCurves | None,
    most: int,
) -> tuple[list[EditStrips], int]:
    """The edits of a few images, the same for all edits and evenly spaced over the data set; and how many edits there are.

    Args:
        unedited: collection with the codes without an edit, used if the collection of edits has none of strength 0.
    """
    index = read_columns(collection, ["edit", "strength"])
    if index is None or not {"edit", "strength"}.issubset(index.schema.names):
        return [], 0
    names, strengths = index["edit"].to_pylist(), floats(index, "strength")
    total = len(set(names))
    grids = {e: _grid(strengths[[n == e for n in names]]) for e in list(dict.fromkeys(names))[:MOST_EDITS]}
    columns = sum(len(grid) for grid in grids.values())
    ids = _spread(sorted(set(index["image_id"].to_pylist())), max(1, min(most, MOST_ROWS, MOST_IMAGES // columns)))
    sources = read_sources(source_images, ids, resolution)
    plain = _unedited(reader_of, unedited, ids)
    responses = {response.edit: response for response in effects.responses} if effects else {}
    table = read_codes(collection, ids, ("edit", "strength"))
    strips = []
    for edit, grid in grids.items():
        rendered: dict[tuple[str, float], tuple[str | None, str]] = {(i, 0.0): plain[i] for i in plain}
        if table is not None:
            keep = [
                row
                for row, (name, strength) in enumerate(
                    zip(table["edit"].to_pylist(), floats(table, "strength"), strict=True)
                )
                if name == edit and strength in grid
            ]
            part = table.take(keep)
            keys = zip(part["image_id"].to_pylist(), floats(part, "strength").tolist(), strict=True)
            rendered |= dict(zip(keys, render_rows(reader_of(collection), part), strict=True))
        shown = [s for s in grid if s != 0 or any(strength == 0 for _, strength in rendered)]
        headings = ("source", *("unedited" if s == 0 else signed(s, 1) for s in shown))
        lines = [Strip(i, "", _cells(i, shown, sources, rendered, responses.get(edit))) for i in ids]
        strips.append(EditStrips(edit, headings, tuple(lines)))
    return strips, total


def find_unedited(store: Store, collection: Collection, latents: Sequence[str]) -> Collection | None:
    """The latents that were edited: those named in its records, else the only ones of the report, else those of the same
    name."""
    known = store.list("latents")
    records = [collection.provenance(), collection.plan().config]
    texts = [value for record in records for _, value in walk(record) if isinstance(value, str)]
    named = [text.rpartition("/")[2] for text in texts if text.rpartition("/")[2] in known]
    candidates = [*named, *(latents if len(latents) == 1 else ()), collection.name]
    return next((store.collection("latents", name) for name in candidates if name in known), None)


def _grid(strengths: np.ndarray) -> list[float]:
    """Strengths to show, including 0: all of them, or some evenly spaced ones with both ends."""
    every = np.unique(np.concatenate([strengths, [0.0]]))
    if len(every) <= MOST_STRENGTHS:
        return [float(s) for s in every]
    zero = int(np.searchsorted(every, 0.0))
    places = np.linspace(0, len(every) - 1, MOST_STRENGTHS).round().astype(int)
    places[np.abs(places - zero).argmin()] = zero
    return [float(s) for s in every[np.unique(places)]]


def _spread(ids: list[str], most: int) -> list[str]:
    return [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int))]


def _unedited(
    reader_of: ReaderOf, unedited: Collection | None, ids: Sequence[str]
) -> dict[str, tuple[str | None, str]]:
    table = None if unedited is None or not unedited.done() else read_codes(unedited, ids)
    if unedited is None or table is None:
        return {}
    return dict(zip(table["image_id"].to_pylist(), render_rows(reader_of(unedited), table), strict=True))


def _cells(
    image_id: str,
    strengths: Sequence[float],
    sources: Mapping[str, str],
    rendered: Rendered,
    response: EffectCurve | None,
) -> tuple[Cell, ...]:
    source = sources.get(image_id)
    cells = [Cell(source, reason="" if source else "the source image cannot be read")]
    for strength in strengths:
        image, reason = rendered.get((image_id, strength), (None, "no row"))
        score = _score(response, image_id, strength)
        lines = () if score is None else (f"{number(score, 3)}",)
        cells.append(Cell(image, lines, marked=strength == 0, reason=reason))
    return tuple(cells)


def _score(response: EffectCurve | None, image_id: str, strength: float) -> float | None:
    if response is None or image_id not in response.ids or strength not in response.strengths:
        return None
    score = float(response.scores[response.ids.index(image_id), int(np.searchsorted(response.strengths, strength))])
    return score if np.isfinite(score) else None
