"""The tables of a board: for each data set, what was measured on every method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ganinv.leaderboard import halves_table
from ganinv.leaderboard.board import Board, Row, published
from ganinv.leaderboard.columns import Column, channels, consistencies, editability, fidelity, references
from ganinv.leaderboard.halves_table import halves_of
from ganinv.report.intervals import Estimate, estimate
from ganinv.report.tables import Value, mean_cells
from ganinv.report.words import number

EMPTY = Value(math.nan, "")


@dataclass(frozen=True)
class Table:
    """``rows``: method -> cells, one per column; ``missing``: method -> why it has none."""

    title: str
    columns: Sequence[Column]
    rows: dict[str, list[Value]]
    missing: dict[str, str]


def tables(board: Board, dataset: str) -> list[Table]:
    """All tables of one data set: fidelity and cost, editability, and the further measures."""
    methods, missing = board.rows.get(dataset, {}), board.not_run(dataset)
    near, edited = fidelity(board), editability(board)
    measured = _means(board, methods, near)
    first = {name: [*measured[name], *_costs(board, row)] for name, row in methods.items()}
    out = [Table("Fidelity, identity and cost", [*near, *cost_columns(board)], first, missing)]
    if edited:
        out.append(Table("Editability", edited, _means(board, methods, edited), {}))
    if found := consistencies(board):
        out.append(_consistency(board, methods, found))
    if single := channels(board):
        having = {name: row for name, row in methods.items() if single[0].key in row.values}
        out.append(Table("Single channels of S beside directions in W", single, _means(board, having, single), {}))
    if methods and board.protocol.references:
        out.append(_references(board, dataset))
    if halves := _halves(board, dataset):
        left = {name: LEFT_OUT for name in methods if name not in halves}
        out.append(_plain("Edited halves", halves_table.columns(board), halves, left))
    return out


def numbers(board: Board) -> pa.Table:
    """Every number of the board, including those that belong to no single method: ``Board.table`` with the rows of the last two
    tables."""
    lines = []
    for dataset in board.rows:
        for found in (_by_reference(board, dataset), _halves(board, dataset)):
            lines += [
                {"dataset": dataset, "method": name, "measure": measure}
                | {"mean": each.mean, "low": each.low, "high": each.high, "images": each.count}
                for name, measures in found.items()
                for measure, each in measures.items()
            ]
    table = board.table()
    return pa.concat_tables([table, pa.Table.from_pylist(lines, schema=table.schema)]) if lines else table


def _halves(board: Board, dataset: str) -> dict[str, dict[str, Estimate]]:
    return {name: halves_table.estimates(each, name) for name, each in halves_of(board, dataset).items()}


def _by_reference(board: Board, dataset: str) -> dict[str, dict[str, Estimate]]:
    out: dict[str, dict[str, Estimate]] = {}
    for key, values in board.references(dataset).items():
        name, _, measure = key.partition(":")
        out.setdefault(name, {})[measure] = estimate(values, board.protocol.resamples)
    return out


def _plain(
    title: str,
    columns: Sequence[Column],
    found: Mapping[str, Mapping[str, Estimate]],
    missing: dict[str, str] | None = None,
) -> Table:
    """A table of rows that are not methods; none is marked as the best."""
    lines = mean_cells(columns, list(found.values()), mark=False, digits=3)
    return Table(title, columns, {name: list(line) for name, line in zip(found, lines, strict=True)}, missing or {})


def _references(board: Board, dataset: str) -> Table:
    """Edits by another photo: the editor and its controls."""
    rows = _by_reference(board, dataset)
    why = board.no_references(dataset) or "it was not asked for: run the board again"
    missing = {} if rows else {board.protocol.reference_editor: why}
    return _plain("Edits by a reference", references(board), rows, missing)


def _consistency(board: Board, methods: Mapping[str, Row], columns: Sequence[Column]) -> Table:
    """Methods that invert again; for the others, why they do not."""
    again = {name: row for name, row in methods.items() if row.again and columns[0].key in row.values}
    rows = _means(board, again, columns)
    for name, row in again.items():
        rest = f"; not its {', '.join(row.holds)}" if row.holds else ""
        rows[name][-1] = Value(math.nan, f"W+{rest}")
    missing = {name: NOT_AGAIN for name, row in methods.items() if not row.again}
    return Table("Latent editing consistency", columns, rows, missing)


LEFT_OUT = (
    "left out for time: its inversion is an optimisation of many steps, and this is of all images of the data set"
)
NOT_AGAIN = "its inversion is an optimisation of many steps, and LEC is of encoders"


def _means(board: Board, methods: Mapping[str, Row], columns: Sequence[Column]) -> dict[str, list[Value]]:
    """Means of each method. The best are marked, except among methods that are bad on purpose."""
    out: dict[str, list[Value]] = {}
    for control in (False, True):
        some = {name: row for name, row in methods.items() if row.control is control}
        found = [{c.key: board.mean(row, c.key) for c in columns if c.key in row.values} for row in some.values()]
        lines = mean_cells(columns, found, mark=not control, digits=3)
        for name, line in zip(some, lines, strict=True):
            out[name] = [replace(v, best=v.best and c.ranked) for c, v in zip(columns, line, strict=True)]
    return {name: out[name] for name in methods}


def cost_columns(board: Board) -> list[Column]:
    """What an image costs, and the error relative to the reference method's."""
    reference = board.protocol.reference
    said = [
        ("seconds", "s/image", "processor seconds per image of the whole run, from opening networks to writing rows"),
        ("wall", "by the clock", "seconds per image by the clock, of the run, beside whatever else ran"),
        ("batch", "batch", "images worked on at once"),
        ("bytes", "kB/image", "of the row and its extras, as stored"),
        ("to_reference", f"MSE to {reference}", f"mean error over {reference}'s on the same images"),
        ("published", "published", "that ratio in the literature, on another generator and other images"),
    ]
    return [Column(key, label, True, words, "") for key, label, words in said]


def _costs(board: Board, row: Row) -> list[Value]:
    cost = row.cost
    out = [
        Value(cost.seconds, number(cost.seconds, 2), more=cost.device),
        Value(cost.wall, number(cost.wall, 2), more=cost.device),
        Value(cost.batch, str(cost.batch)),
        Value(cost.bytes, f"{cost.bytes / 1000:.1f}"),
    ]
    ratio, known = board.to_reference(row), published().get(row.method)
    if ratio is None or np.isnan(ratio.mean):
        out.append(EMPTY)
    else:
        interval = "" if np.isnan(ratio.low) else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        out.append(Value(ratio.mean, f"{ratio.mean:.2f}{interval}", more=ratio.text))
    out.append(EMPTY if known is None else Value(float(known["ratio"]), f"{known['ratio']}", more=str(known["source"])))
    return out
