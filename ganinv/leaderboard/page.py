"""The page of a board: Markdown for the docs, HTML with pictures and tables that sort, and a plot of seconds against quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment
from scipy.stats import spearmanr
from torch import Tensor

from ganinv.data.index import SourceIndex
from ganinv.data.png import png_bytes
from ganinv.data.source import Place
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.leaderboard.board import Board, Row, collection_name, published
from ganinv.records import CodeReader
from ganinv.report.images import data_uri, pixels
from ganinv.report.plots import cost

SHOWN = 8
"""Images of the pictures."""
FLATTERS = 0.9
"""Rank correlation of two measures over methods, under which the page names whom the one flatters."""
WORDS = {
    "mse": ("MSE", "squared error, pixels in [-1, 1]", True),
    "ssim": ("SSIM", "on [0, 1], window of 11", False),
    "features": ("features", "distance in SqueezeNet's features, which trained nothing here", True),
    "identity": ("identity", "distance of dlib's face descriptors to the photo's", True),
    "grain": ("grain", "error in the finest detail against the source's own, dB; 0 is blur, more are speckles", True),
}


@dataclass(frozen=True)
class Column:
    """``words`` say what ``label`` means; ``better``: whether low values are."""

    key: str
    label: str
    words: str
    low_is_better: bool


def columns(board: Board) -> list[Column]:
    """The measures of a board, in words."""
    asked = {"same": ("same person", f"share of images under {board.protocol.same_person:g} in that distance", False)}
    for edit in board.protocol.edits:
        wanted = f"{edit.measure} changed by {edit.change:g}"
        asked[f"{edit.direction}_reached"] = (
            f"{edit.direction} reached",
            f"share in which a judge saw {wanted}",
            False,
        )
        asked[f"{edit.direction}_kept"] = (f"{edit.direction} kept", f"{wanted}, and still the photo's person", False)
    return [Column(key, *{**WORDS, **asked}[key]) for key in board.measures]


def markdown(board: Board) -> str:
    """The tables, with what stands beside them in words."""
    shown, lines = columns(board), [_head(board)]
    for dataset, methods in board.rows.items():
        first = next(iter(methods.values()))
        lines += [f"\n## {dataset}, {len(first.ids)} images\n"]
        head = [
            "method",
            *(c.label for c in shown),
            "s/image",
            "kB/image",
            f"MSE to {board.protocol.reference}",
            "published",
        ]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for row in methods.values():
            lines.append("| " + " | ".join([row.method, *_cells(board, row, shown)]) + " |")
        lines += [f"\n{sentence}" for sentence in sentences(board, methods)]
        missing = {n: why for n, why in board.not_run.items() if n.partition(".")[0] == dataset}
        lines += [f"\nNot run: {n.partition('.')[2]} ({why})" for n, why in sorted(missing.items())]
    return "\n".join(lines) + "\n"


def sentences(board: Board, methods: Mapping[str, Row]) -> list[str]:
    """What the numbers of one data set say about the judges and the literature."""
    out = []
    if len(methods) > 3:
        for judge in ("features", "identity"):
            means = [
                (board.mean(row, "mse").mean, board.mean(row, judge).mean)
                for row in methods.values()
                if judge in row.values
            ]
            if len(means) > 3:
                rank = float(spearmanr(*zip(*means, strict=True)).statistic)
                believed = "" if rank >= FLATTERS else f" Under {FLATTERS}: {_flattered(board, methods, judge)}."
                out.append(f"Rank correlation of MSE with {judge} over methods: {rank:.2f}.{believed}")
    for name, row in methods.items():
        found, known = board.to_reference(row), published().get(name)
        if found is None or known is None or np.isnan(found.mean):
            continue
        expected = float(str(known["ratio"]))
        if not 0.5 <= found.mean / expected <= 1.5:
            out.append(
                f"{name}: {found.mean:.2f} of {board.protocol.reference}'s error here, {expected:.2f} in {known['source']}."
            )
    return out


def write(board: Board, folder: Path, generator: str | None = None) -> dict[str, str]:
    """Write ``leaderboard.md``, ``leaderboard.html`` and ``leaderboard-<data set>.png`` into ``folder``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {dataset: _picture(board, dataset, generator) for dataset in board.rows}
    for dataset, image in pictures.items():
        (folder / f"leaderboard-{dataset}.png").write_bytes(png_bytes(image))
    text = markdown(board) + "".join(f"\n![{d}](leaderboard-{d}.png)\n" for d in pictures)
    (folder / "leaderboard.md").write_text(text)
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "page.html.j2").read_text())
    shown = columns(board)
    tables = [
        {
            "name": dataset,
            "images": len(next(iter(methods.values())).ids),
            "rows": [(row.method, _values(board, row, shown)) for row in methods.values()],
            "sentences": sentences(board, methods),
            "picture": data_uri(pixels(pictures[dataset][None])[0]),
            "methods": list(methods),
            "plot": cost(
                {m: row.seconds for m, row in methods.items()},
                {m: board.mean(row, "mse").mean for m, row in methods.items()},
                "Seconds against error",
                "MSE",
            ),
        }
        for dataset, methods in board.rows.items()
    ]
    page = template.render(
        head=_head(board), columns=shown, tables=tables, not_run=board.not_run, protocol=board.protocol
    )
    (folder / "leaderboard.html").write_text(page)
    return {"page": str(folder / "leaderboard.html"), "markdown": str(folder / "leaderboard.md")}


def _head(board: Board) -> str:
    judges = sorted({judge for methods in board.rows.values() for row in methods.values() for judge in row.judges})
    meanings = "; ".join(f"**{c.label}**: {c.words}" for c in columns(board))
    told = f"Judges: {'; '.join(judges)}." if judges else "The judges of faces are not installed (extra `judges`)."
    return (
        f"# Leaderboard\n\nMade by `ganinv leaderboard run` and `draw`, protocol `{board.protocol.name}` "
        f"({board.protocol.digest[:8]}). {told} No method, direction or generator was trained with them. Samples are the "
        f"generator's own images, whose true code exists.\n\n{meanings}. Seconds are processor seconds per image, from reading "
        "to writing. Intervals are of 95 %, by resampling images; ratios are on the same images."
    )


def _cells(board: Board, row: Row, shown: Sequence[Column]) -> list[str]:
    return [text for text, _, _ in _values(board, row, shown)]


def _values(board: Board, row: Row, shown: Sequence[Column]) -> list[tuple[str, float, str]]:
    """(text, number to sort by, what is told on hovering) of each column."""
    out = []
    for column in shown:
        found = board.mean(row, column.key) if column.key in row.values else None
        out.append(("", np.inf, "") if found is None else (_number(found.mean), found.mean, found.text))
    out += [(f"{row.seconds:.2f}", row.seconds, ""), (f"{row.bytes / 1000:.1f}", row.bytes, "")]
    to_reference, known = board.to_reference(row), published().get(row.method)
    out.append(
        ("", np.inf, "") if to_reference is None else (f"{to_reference.mean:.2f}", to_reference.mean, to_reference.text)
    )
    out.append(
        ("", np.inf, "") if known is None else (f"{known['ratio']}", float(str(known["ratio"])), str(known["source"]))
    )
    return out


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3g}"


def _flattered(board: Board, methods: Mapping[str, Row], judge: str) -> str:
    """The method that stands highest by MSE for where the judge has it."""
    names = [name for name, row in methods.items() if judge in row.values]
    place = {n: k for k, n in enumerate(sorted(names, key=lambda n: board.mean(methods[n], judge).mean))}
    flattered = max(names, key=lambda n: place[n] - names.index(n))
    return f"MSE flatters {flattered} ({names.index(flattered) + 1}. by MSE, {place[flattered] + 1}. by {judge})"


def _picture(board: Board, dataset: str, generator: str | None) -> Tensor:
    """Sources above each method's renderings of them, one row each, in the order of the table: [3, H, W]."""
    methods = board.rows[dataset]
    first = board.store.latents[collection_name(dataset, next(iter(methods)))].provenance()
    g = open_generator(generator or str(first["generator_name"]))
    ids = sorted(set.intersection(*(set(row.ids) for row in methods.values())))[:SHOWN]
    strips = [torch.cat(list(_sources(board, collection_name(dataset, next(iter(methods))), ids, g)), dim=2)]
    for method in methods:
        latents = board.store.latents[collection_name(dataset, method)]
        table = latents.read(ids=ids)
        order = [table["image_id"].to_pylist().index(i) for i in ids]
        code = CodeReader(board.store, latents, g).codes(table, order)
        with torch.no_grad():
            strips.append(torch.cat(list(g.render(code.to(g.device)).clamp(-1, 1).cpu()), dim=2))
    return torch.cat(strips, dim=1)


def _sources(board: Board, name: str, ids: Sequence[str], g: Generator) -> Tensor:
    """The photos of some images [N, 3, R, R], as their inversion read them; white where one is gone."""
    latents = board.store.latents[name]
    place = Place(latents.plan().config["dataset"]["url"])
    loaded = SourceIndex(place, latents.objects, latents.path).load(ids, g.resolution)
    found = dict(zip(loaded.ids, loaded.images, strict=True))
    return torch.stack([found.get(i, torch.ones(3, g.resolution, g.resolution)) for i in ids])
