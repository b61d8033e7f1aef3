"""What the numbers of a board say about the judges, the literature and themselves, as sentences beside the tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import spearmanr

from ganinv.leaderboard.board import Board, Row, published
from ganinv.report.intervals import FEW

FLATTERS = 0.9
"""If the rank correlation of two measures over methods is lower than this, a sentence says which methods one of them
flatters."""
FEWEST = 4
"""Smallest number of methods for which a rank correlation is given."""
APART = 1.5
"""If our ratio and the published one differ by more than this factor, a sentence says so."""


def sentences(board: Board, dataset: str) -> list[str]:
    """All sentences on one data set."""
    methods = board.rows.get(dataset, {})
    ranked = {name: row for name, row in methods.items() if not row.control}
    out = [line for measure in ("distance", "mse") for line in _ranks(board, ranked, measure)]
    out += [*_within(ranked), *_literature(board, ranked)]
    counts = {len(row.ids) for row in methods.values()}
    if counts and min(counts) < FEW:
        out.append(f"No intervals of fewer than {FEW} images: there are {min(counts)}.")
    elif len(counts) > 1:
        out.append(
            f"Methods have {min(counts)} to {max(counts)} images here; ratios are over those that both of a pair have."
        )
    failed = {name: row.failed for name, row in methods.items() if row.failed}
    if failed:
        out.append(f"Images that failed: {', '.join(f'{name} {count}' for name, count in failed.items())}.")
    speckled = [name for name, row in methods.items() if np.nanmean(row.values.get("speckled", np.zeros(1))) > 0]
    if speckled:
        out.append(f"Speckled images: {', '.join(speckled)}.")
    return out


def identity_check(board: Board) -> list[str]:
    """Whether the judge of identity tells people apart at this size."""
    if not board.identity:
        return [
            "That the judge of identity tells people apart at this size was not checked here: that needs two photos of a person "
            "(`--people`)."
        ]
    return [f"Identity on {name} at {each['size']} pixels: {each['text']}" for name, each in board.identity.items()]


def _ranks(board: Board, methods: Mapping[str, Row], measure: str) -> list[str]:
    out = []
    for judge in ("features", "identity"):
        named = [name for name, row in methods.items() if measure in row.values and judge in row.values]
        means = {m: [board.mean(methods[name], m).mean for name in named] for m in (measure, judge)}
        kept = [k for k in range(len(named)) if not np.isnan(means[measure][k]) and not np.isnan(means[judge][k])]
        if len(kept) < FEWEST:
            continue
        ours, judged = (np.array([means[m][k] for k in kept]) for m in (measure, judge))
        rank = float(spearmanr(ours, judged).statistic)
        label = "MSE" if measure == "mse" else measure
        believed = ""
        if rank < FLATTERS:
            believed = f" Under {FLATTERS:g}: {_flattered([named[k] for k in kept], ours, judged, label, judge)}."
        out.append(f"Rank correlation of {label} with {judge} over {len(kept)} methods: {rank:.2f}.{believed}")
    return out


def _flattered(names: list[str], ours: np.ndarray, judged: np.ndarray, label: str, judge: str) -> str:
    """Methods that our measure ranks higher than the judge does, by a fifth of the methods; if there are none, those with the
    largest difference."""
    a, b = ours.argsort().argsort(), judged.argsort().argsort()
    gain = b - a
    enough = max(min(len(names) // 5, int(gain.max())), 1)
    found = sorted(np.flatnonzero(gain >= enough), key=lambda k: -gain[k])
    return f"{label} flatters " + ", ".join(
        f"{names[k]} ({a[k] + 1}. by {label}, {b[k] + 1}. by {judge})" for k in found
    )


def _within(methods: Mapping[str, Row]) -> list[str]:
    """Whether the images that a method has nearest by distance are also those whose person it preserves."""
    ranks = []
    for row in methods.values():
        if "distance" in row.values and "identity" in row.values:
            ours, judged = row.values["distance"], row.values["identity"]
            known = ~(np.isnan(ours) | np.isnan(judged))
            if known.sum() >= FEW and np.ptp(ours[known]) > 0 and np.ptp(judged[known]) > 0:
                ranks.append(float(spearmanr(ours[known], judged[known]).statistic))
    if not ranks:
        return []
    return [
        f"Within a method, rank correlation of distance with identity over images: {np.median(ranks):.2f} "
        f"({min(ranks):.2f} to {max(ranks):.2f} of {len(ranks)} methods)."
    ]


def _literature(board: Board, methods: Mapping[str, Row]) -> list[str]:
    out = []
    for name, row in methods.items():
        found, known = board.to_reference(row), published().get(name)
        if found is None or known is None or np.isnan(found.mean):
            continue
        expected = float(known["ratio"])
        if not 1 / APART <= found.mean / expected <= APART:
            out.append(
                f"{name} has {found.mean:.2f} of {board.protocol.reference}'s error here and {expected:.2f} in the literature "
                f"({known['source']})."
            )
    return out
