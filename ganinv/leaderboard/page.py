"""The page of a board: Markdown for the docs, HTML with pictures and tables that sort, and every number as Parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Environment

from ganinv.leaderboard.board import Board, Row, published
from ganinv.leaderboard.columns import Column, channels, consistencies, editability, fidelity, references
from ganinv.leaderboard.fronts import fronts
from ganinv.leaderboard.pictures import legend, sheet, strips
from ganinv.leaderboard.said import identity_check, sentences
from ganinv.report.figure import standalone
from ganinv.report.images import data_uri
from ganinv.report.intervals import estimate
from ganinv.report.tables import Value, mean_cells
from ganinv.report.words import number

NAME = "leaderboard"
"""What the files of a page begin with."""


EMPTY = Value(math.nan, "")


@dataclass(frozen=True)
class Table:
    """``rows``: method -> cells, one per column; ``missing``: method -> why it has none."""

    title: str
    columns: Sequence[Column]
    rows: dict[str, list[Value]]
    missing: dict[str, str]


def tables(board: Board, dataset: str) -> list[Table]:
    """Fidelity with what it costs, editability, and what is behind it, of one data set."""
    methods, missing = board.rows.get(dataset, {}), board.not_run(dataset)
    near, edited = fidelity(board), editability(board)
    measured = _means(board, methods, near)
    first = {name: [*measured[name], *_costs(board, row)] for name, row in methods.items()}
    out = [Table("Fidelity, identity and cost", [*near, *_cost_columns(board)], first, missing)]
    if edited:
        out.append(Table("Editability", edited, _means(board, methods, edited), {}))
    if found := consistencies(board):
        out.append(_consistency(board, methods, found))
    if single := channels(board):
        having = {name: row for name, row in methods.items() if single[0].key in row.values}
        out.append(Table("Single channels of S beside directions in W", single, _means(board, having, single), {}))
    if methods and (by_reference := _references(board, dataset)):
        out.append(by_reference)
    return out


def _references(board: Board, dataset: str) -> Table | None:
    """Edits by another photo: the editor beside its controls."""
    columns, found = references(board), board.references(dataset)
    if not columns:
        return None
    names = dict.fromkeys(name.partition(":")[0] for name in found)
    means = [
        {
            c.key: estimate(found[f"{name}:{c.key}"], board.protocol.resamples)
            for c in columns
            if f"{name}:{c.key}" in found
        }
        for name in names
    ]
    rows = {n: list(line) for n, line in zip(names, mean_cells(columns, means, mark=False, digits=3), strict=True)}
    why = board.no_references(dataset) or "nobody asked for it: run the board again"
    return Table("Edits by a reference", columns, rows, {} if rows else {board.protocol.reference_editor: why})


def _consistency(board: Board, methods: Mapping[str, Row], columns: Sequence[Column]) -> Table:
    """Of methods that invert again; the others say why they do not."""
    again = {name: row for name, row in methods.items() if row.again and columns[0].key in row.values}
    rows = _means(board, again, columns)
    for name, row in again.items():
        rest = f"; not its {', '.join(row.holds)}" if row.holds else ""
        rows[name][-1] = Value(math.nan, f"W+{rest}")
    missing = {name: NOT_AGAIN for name, row in methods.items() if not row.again}
    return Table("Latent editing consistency", columns, rows, missing)


NOT_AGAIN = "its inversion is an optimisation, and LEC is of encoders"


def _means(board: Board, methods: Mapping[str, Row], columns: Sequence[Column]) -> dict[str, list[Value]]:
    """Of each method; the best are marked, and not among those that are bad on purpose."""
    out: dict[str, list[Value]] = {}
    for control in (False, True):
        some = {name: row for name, row in methods.items() if row.control is control}
        found = [{c.key: board.mean(row, c.key) for c in columns if c.key in row.values} for row in some.values()]
        lines = mean_cells(columns, found, mark=not control, digits=3)
        out |= {name: list(line) for name, line in zip(some, lines, strict=True)}
    return {name: out[name] for name in methods}


def markdown(board: Board, pictures: bool = False) -> str:
    """All tables, with what stands beside them in words. ``pictures``: with links to those that ``write`` makes."""
    lines = [_head(board), "", "| column | what it is | by |", "|---|---|---|"]
    lines += [
        f"| {', '.join(labels)} {arrow} | {words} | {judges} |" for labels, arrow, words, judges in _explained(board)
    ]
    lines += ["", *(line + "\n" for line in _notes(board))]
    for dataset in board.datasets:
        lines += [f"## {dataset}, {_images(board, dataset)}", ""]
        for table in tables(board, dataset):
            lines += [f"### {table.title}: {dataset}", "", *_lines(table), ""]
        lines += [line + "\n" for line in sentences(board, dataset)]
        if pictures and dataset in board.rows:
            lines += [f"![What it costs, what it gives]({NAME}-{dataset}.svg)", "", f"{legend(board)}:", ""]
            lines += [f"![{dataset}]({NAME}-{dataset}.jpg)", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def write(board: Board, folder: Path, generator: str | None = None) -> dict[str, str]:
    """Write ``leaderboard.md``, ``.html`` and ``.parquet``, and for each data set ``leaderboard-<name>.jpg`` and ``.svg``, into
    ``folder``; the paths of the first three. The same board gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for dataset in board.datasets:
        found = strips(board, dataset, generator) if dataset in board.rows else {}
        plot = fronts(board, dataset) if dataset in board.rows else ""
        if plot:
            (folder / f"{NAME}-{dataset}.svg").write_text(standalone(plot))
        if found:
            sheet(found).save(folder / f"{NAME}-{dataset}.jpg", quality=90)
        shown.append(
            {
                "name": dataset,
                "images": _images(board, dataset),
                "tables": tables(board, dataset),
                "sentences": sentences(board, dataset),
                "plot": plot,
                "strips": {name or "photo": data_uri(strip, max(strip.shape)) for name, strip in found.items()},
            }
        )
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "page.html.j2").read_text())
    title, _, head = _head(board).partition("\n\n")
    html = template.render(
        title=title.strip("# "), head=head.replace("`", ""), notes=_notes(board), datasets=shown, legend=legend(board)
    )
    (folder / f"{NAME}.html").write_text(html)
    (folder / f"{NAME}.md").write_text(markdown(board, pictures=True))
    pq.write_table(board.table(), folder / f"{NAME}.parquet")
    return {kind: str(folder / f"{NAME}.{end}") for kind, end in _FILES.items()}


_FILES = {"page": "html", "markdown": "md", "numbers": "parquet"}


def _head(board: Board) -> str:
    told = f"Judges: {'; '.join(board.judges)}." if board.judges else "No judge is installed (extra `judges`)."
    return (
        f"# Leaderboard\n\nMade by `ganinv leaderboard run` and `draw`, protocol `{board.protocol.name}` "
        f"({board.protocol.digest[:8]}). {told} No method, direction or generator was trained with them. Samples are the "
        "generator's own images, whose true code exists. Intervals (on hovering, and in the Parquet file beside this page) are "
        "of 95 %, by resampling images; ratios are of pairs, on the same images. Methods whose name begins with `control-` are "
        "bad on purpose: what a column says of them is what it is worth."
    )


def _notes(board: Board) -> list[str]:
    """What holds for all data sets."""
    out = identity_check(board)
    if not board.protocol.edits:
        out.append("Edits were left out (--no-edits).")
    out += [f"Left out, {what}: {why}" for what, why in board.absent.items()]
    devices = sorted({row.cost.device for methods in board.rows.values() for row in methods.values()})
    return [*out, f"Seconds were taken on: {'; '.join(devices)}."] if devices else out


def _explained(board: Board) -> list[tuple[list[str], str, str, str]]:
    """(labels, arrow, words, judges) of all columns; those along an edit's range together."""
    out: list[tuple[list[str], str, str, str]] = []
    last = [*editability(board), *consistencies(board), *channels(board), *references(board)]
    for column in [*fidelity(board), *_cost_columns(board), *last]:
        if out and column.along and out[-1][2] == column.words:
            out[-1][0].append(column.along)
        else:
            out.append(([column.label], column.arrow, column.words, column.judges))
    return out


def _images(board: Board, dataset: str) -> str:
    counts = sorted({len(row.ids) for row in board.rows.get(dataset, {}).values()})
    return (
        " to ".join(str(count) for count in dict.fromkeys((*counts[:1], *counts[-1:]))) + " images"
        if counts
        else "none"
    )


def _cost_columns(board: Board) -> list[Column]:
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


def _lines(table: Table) -> list[str]:
    heads = ["method", *(f"{column.label} {column.arrow}".strip() for column in table.columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method, cells in table.rows.items():
        lines.append(f"| {method} | " + " | ".join(f"**{c.text}**" if c.best else c.text for c in cells) + " |")
    empty = " |" * (len(heads) - 2)
    lines += [f"| {method} | not run: {_in_a_cell(why)} |{empty}" for method, why in table.missing.items()]
    return lines


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
