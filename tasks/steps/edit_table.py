"""Edited images as rows of ``edits``: one per image, edit and strength, in this order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing import FoundStrengths
from ganinv.editing.moves import add_styles
from ganinv.generators.stylegan2 import Generator
from ganinv.records import segment_moves, style_offsets
from ganinv.records.segment_moves import SegmentMove
from ganinv.store import tensor_array

EXTRAS = {"extras_uri": pa.string(), "extras_sha256": pa.string(), "extras_bytes": pa.int64()}
"""Columns that an edit has from its inversion, or of an object of its own."""


@dataclass(frozen=True)
class EditColumns:
    """Which columns there are beside those that every edit has."""

    styles: bool = False
    segments: bool = False
    found: bool = False
    png: bool = False


@dataclass(frozen=True)
class Edited:
    """One edit at one strength of N images, as it is stored.

    Args:
        w: [N, num_ws, w_dim]. styles: layer name -> [N or 1, C], what it adds to styles. found: where its strength was
            looked for. move: what it moves in one segment, whole: its own code where extras are others than those of the
            inversion, extras: their columns then, and png: the rendering; of a single image only.
    """

    edit: str
    strength: float
    w: Tensor
    styles: Mapping[str, Tensor] = field(default_factory=dict)
    move: SegmentMove | None = None
    found: FoundStrengths | None = None
    whole: Code | None = None
    extras: tuple[str | None, str | None, int | None] | None = None
    png: bytes | None = None

    def on(self, code: Code) -> Code:
        """The edited code of the images."""
        if self.whole is not None:
            return self.whole
        code = add_styles(code.with_w(self.w), self.styles)
        return code if self.move is None else self.move.on(code)


def edits_table(source: pa.Table, w: Tensor, edits: Sequence[Edited], columns: EditColumns) -> pa.Table:
    """The rows of some images.

    Args:
        source: their N rows of ``latents``. w: [N, E, num_ws, w_dim], after each edit and strength; the table takes it over.
        edits: the E edits and strengths.
    """
    count, each = source.num_rows, len(edits)
    image = pa.array(np.repeat(np.arange(count), each))
    edit = pa.array(np.tile(np.arange(each), count))
    made = {
        "image_id": source["image_id"].take(image),
        "edit": pa.array([e.edit for e in edits], pa.string()).take(edit),
        "strength": pa.array([e.strength for e in edits], pa.float32()).take(edit),
        "w": tensor_array(w.flatten(0, 1).numpy(), dim_names=["layer", "channel"]),
        **{name: source[name].take(image) for name in EXTRAS},
    }
    if any(e.extras for e in edits):
        for k, (name, kind) in enumerate(EXTRAS.items()):
            given = made[name].to_pylist()
            own = [e.extras[k] if e.extras else value for value, e in zip(given, [*edits] * count, strict=True)]
            made[name] = pa.array(own, kind)
    if columns.found:
        made |= _found(edits, count)
    if columns.segments:
        made[segment_moves.COLUMN] = segment_moves.moves_array([e.move for _ in range(count) for e in edits])
    if columns.styles:
        rows = [
            {name: s[n : n + 1] if len(s) > 1 else s for name, s in e.styles.items()}
            for n in range(count)
            for e in edits
        ]
        made[style_offsets.COLUMN] = style_offsets.offsets_array(rows)
    if columns.png:
        made["image_png"] = pa.array([e.png for e in edits], pa.binary()).take(edit)
    return pa.table(made)


def no_edits(generator: Generator, columns: EditColumns) -> pa.Table:
    """The table of a unit in which every image failed."""
    source = pa.table({"image_id": pa.array([], pa.string()), **{n: pa.array([], t) for n, t in EXTRAS.items()}})
    w = torch.empty(0, 1, generator.num_ws, generator.w_dim)
    return edits_table(source, w, [Edited("", 0.0, w[:, 0])], columns)


def _found(edits: Sequence[Edited], count: int) -> dict[str, pa.Array]:
    """What strengths that are stated as the change of a score came to; null for the others."""
    lines = [[_line(e.found, n) for e in edits] for n in range(count)]
    rows = [line for several in lines for line in several]
    types = {"found_strength": pa.float32(), "response": pa.float32(), "outcome": pa.string()}
    return {name: pa.array([row[k] for row in rows], kind) for k, (name, kind) in enumerate(types.items())}


def _line(found: FoundStrengths | None, n: int) -> tuple[float | None, float | None, str | None]:
    if found is None:
        return None, None, None
    response = float(found.response[n])
    return float(found.strength[n]), response if math.isfinite(response) else None, found.outcome[n]
