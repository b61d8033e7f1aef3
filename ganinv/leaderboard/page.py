"""The page of a board: Markdown for the docs, HTML with pictures and sortable tables, and every number as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from jinja2 import Environment

from ganinv.leaderboard import halves_table
from ganinv.leaderboard.board import CONTROL, Board
from ganinv.leaderboard.columns import channels, consistencies, editability, fidelity, references
from ganinv.leaderboard.fronts import fronts
from ganinv.leaderboard.halves_table import halves_of
from ganinv.leaderboard.pictures import legend, sheet, strips
from ganinv.leaderboard.said import identity_check, sentences
from ganinv.leaderboard.tables import Table, cost_columns, numbers, tables
from ganinv.report.figure import standalone
from ganinv.report.images import data_uri

NAME = "leaderboard"
"""Prefix of the names of a page's files."""


def markdown(board: Board, pictures: bool = False) -> str:
    """All tables, with the text beside them. ``pictures``: with links to the pictures that ``write`` makes."""
    lines = [_head(board), "", "| column | what it is | by |", "|---|---|---|"]
    lines += [
        f"| {', '.join(labels)} {arrow} | {words} | {judges} |" for labels, arrow, words, judges in _explained(board)
    ]
    lines += ["", *(line + "\n" for line in _notes(board))]
    for dataset in board.datasets:
        lines += [f"## {dataset}, {_images(board, dataset)}", ""]
        for table in tables(board, dataset):
            lines += [f"### {table.title}: {dataset}", "", *_lines(table), ""]
        lines += [line + "\n" for line in _sentences(board, dataset)]
        if pictures and dataset in board.rows:
            lines += [f"![What it costs, what it gives]({NAME}-{dataset}.svg)", "", f"{legend(board)}:", ""]
            lines += [f"![{dataset}]({NAME}-{dataset}.jpg)", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def write(board: Board, folder: Path, generator: str | None = None) -> dict[str, str]:
    """Write ``leaderboard.md``, ``.html`` and ``.parquet``, and for each data set ``leaderboard-<name>.jpg`` and ``.svg``, into
    ``folder``. Returns the paths of the first three. The same board gives the same files."""
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
                "sentences": _sentences(board, dataset),
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
    pq.write_table(numbers(board), folder / f"{NAME}.parquet")
    return {kind: str(folder / f"{NAME}.{end}") for kind, end in _FILES.items()}


_FILES = {"page": "html", "markdown": "md", "numbers": "parquet"}


def _sentences(board: Board, dataset: str) -> list[str]:
    halves = halves_of(board, dataset)
    worth = halves_table.worth(halves, CONTROL, halves_table.by_chance(board, dataset)) if halves else []
    return [*sentences(board, dataset), *worth]


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
    """Notes that hold for all data sets."""
    out = identity_check(board)
    if not board.protocol.edits:
        out.append("Edits were left out (--no-edits).")
    if board.protocol.halves:
        out.append(
            f"Edited halves are of data sets with {board.protocol.halves_from} images or more, and of all of them."
        )
    out += [f"Left out, {what}: {why}" for what, why in board.absent.items()]
    devices = sorted({row.cost.device for methods in board.rows.values() for row in methods.values()})
    return [*out, f"Seconds were taken on: {'; '.join(devices)}."] if devices else out


def _explained(board: Board) -> list[tuple[list[str], str, str, str]]:
    """(labels, arrow, words, judges) of all columns; columns along the range of an edit are joined into one."""
    out: list[tuple[list[str], str, str, str]] = []
    last = [
        *editability(board),
        *consistencies(board),
        *channels(board),
        *references(board),
        *halves_table.columns(board),
    ]
    for column in [*fidelity(board), *cost_columns(board), *last]:
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
