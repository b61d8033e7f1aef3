"""The table of edited halves of a board: its numbers, and how far they can be trusted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from ganinv.leaderboard.board import HALVES, Board, collection_name
from ganinv.leaderboard.columns import Column
from ganinv.leaderboard.halves import PHOTOS, HalvesDistance, halves_distance, lower_half, random_halves
from ganinv.report.intervals import Estimate

FEWEST = 4
"""Smallest number of methods for which a rank correlation is given."""


def columns(board: Board) -> list[Column]:
    """The columns: what is measured on an edited half."""
    edit = board.protocol.halves
    said = "; ".join(judge for judge in board.judges if judge.startswith("SqueezeNet"))
    measure = next((each.measure for each in board.protocol.edits if each.direction == edit), edit)
    against = (
        f"KID x 1000 in SqueezeNet's features, of the half of the photos with the least {measure}, inverted, to the real other "
        "half"
    )
    words = [
        ("unedited", f"{edit} KID unedited", True, f"{against}: as rendered, before any edit"),
        ("best", f"{edit} KID edited", True, f"{against}: edited by the strength that makes it smallest, as published"),
        ("gain", f"{edit} KID gain", False, "the first less the second: what the edit itself brings nearer"),
        (
            "asked",
            f"{edit} KID at response",
            True,
            f"{against}: edited by the strength at which half of a method's images reach the asked change",
        ),
        ("strength", f"{edit} strength", True, "of the smallest"),
    ]
    return [
        Column(f"halves_{key}", label, low, text, said, ranked=key != "strength") for key, label, low, text in words
    ]


@lru_cache(maxsize=16)
def halves_of(board: Board, dataset: str) -> dict[str, HalvesDistance]:
    """Method -> the distance of its edited half to the real one; under ``PHOTOS``, that of the unedited photos of this half.
    None if the data set has too few images, or nothing was edited."""
    photos = board.store.collection(HALVES, collection_name(dataset, PHOTOS))
    if not board.protocol.halves or photos.manifest() is None:
        return {}
    table, strengths = photos.read(), board.protocol.strengths
    measure, features = table["measure"].to_numpy(), _features(table)[:, 0]
    less, more = lower_half(measure), lower_half(-measure)
    ids = set(np.array(table["image_id"].to_pylist())[less].tolist())
    still = np.stack([features[less]] * (1 + len(strengths)))
    out = {PHOTOS: halves_distance(still, features[more], strengths)}
    for method, row in board.rows.get(dataset, {}).items():
        made = board.store.collection(HALVES, collection_name(dataset, method))
        if made.manifest() is None:
            continue
        table = made.read()
        edited = _features(table)[[image_id in ids for image_id in table["image_id"].to_pylist()]]
        reached = row.values.get(f"{board.protocol.halves}_strength", np.full(1, np.nan))
        asked = float(np.nanmedian(reached)) if np.isfinite(reached).mean() > 0.5 else np.nan
        out[method] = halves_distance(edited.transpose(1, 0, 2), features[more], strengths, asked)
    return out


def by_chance(board: Board, dataset: str) -> float:
    """KID times 1000 that two random halves of the photos do not exceed in 95 % of splits."""
    photos = board.store.collection(HALVES, collection_name(dataset, PHOTOS)).read()
    return random_halves(_features(photos)[np.isfinite(photos["measure"].to_numpy()), 0])


def estimates(found: HalvesDistance, method: str) -> dict[str, Estimate]:
    """Estimates by the column's key; photos have none for edits."""
    out = {f"halves_{name}": getattr(found, name) for name in ("unedited", "best", "gain", "asked")}
    if method == PHOTOS:
        return {"halves_unedited": out["halves_unedited"]}
    return {**out, "halves_strength": Estimate(found.strength, np.nan, np.nan, found.best.count)}


def worth(found: dict[str, HalvesDistance], control: str, chance: float) -> list[str]:
    """Sentences on how many images there are, what flatters the number, and whether it depends on the edits at all.

    Args:
        control: prefix of the names of methods that are bad on purpose. chance: result of :func:`by_chance`.
    """
    if not found:
        return []
    photos, ranked = found[PHOTOS].unedited, {n: each for n, each in found.items() if n != PHOTOS and control not in n}
    out = [
        f"Edited halves: {photos.count} photos, edited, against the other half. Nobody edits the photos as they are, and they "
        f"have {photos.mean:.1f} ({photos.low:.1f} to {photos.high:.1f}); of random halves of all photos 95 % have less than "
        f"{chance:.1f}. So the number is first of how a rendering looks, edited or not, and flatters a method that copies and "
        "does not edit. What the edit does is the gain. The strength is chosen by the number itself, as published, and flatters "
        "all. Of whose face it is, it says nothing."
    ]
    if len(ranked) >= FEWEST:
        unedited, best = ([getattr(each, name).mean for each in ranked.values()] for name in ("unedited", "best"))
        gained = [name for name, each in ranked.items() if each.gain.low > 0]
        nearer = "none" if not gained else f"{len(gained)} ({', '.join(gained)})"
        out.append(
            f"Rank correlation of the edited half's KID with the unedited one's over {len(ranked)} methods: "
            f"{float(spearmanr(unedited, best).statistic):.2f}. The edit brings the half nearer, beyond its interval, "
            f"by {nearer}."
        )
    return out


def _features(table: pa.Table) -> np.ndarray:
    """[N, S, D]."""
    return np.asarray(table["features"].combine_chunks().to_numpy_ndarray())
