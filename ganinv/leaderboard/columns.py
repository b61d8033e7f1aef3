"""What the columns of a board mean, and what measures each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ganinv.judges.identity import ENOUGH
from ganinv.leaderboard.board import Board
from ganinv.report.words import Measure

FACES = ("dlib face descriptor", "dlib landmarks")
PIXELS = "no net"
"""Of a measure that no judge says."""


@dataclass(frozen=True)
class Column(Measure):
    """A measure of a board.

    Args:
        judges: who says it, with version and hash.
        along: where along the range of an edit, in a number, if it is one of several.
    """

    judges: str
    along: str = ""


def fidelity(board: Board) -> list[Column]:
    """How near a rendering is to its photo, and whose face it is."""
    same, grainy = board.protocol.same_person, board.protocol.speckled
    auc = min((float(each["auc"]) for each in board.identity.values()), default=None)
    worth = "" if auc is None else f" (AUC {auc:.3f}{'' if auc >= ENOUGH else ': says little'})"
    pixels = [
        ("mse", "MSE", True, "squared error, pixels in [-1, 1]"),
        ("ssim", "SSIM", False, "on [0, 1], window of 11"),
        (
            "distance",
            "distance",
            True,
            "the embedded one, in features of the generator's own critic, which methods minimise: no judge. It says little of "
            "identity within a method, and flatters what was optimised for it, such as projection to W",
        ),
        (
            "grain",
            "grain",
            True,
            "energy of the error in the finest detail, against the photo's own there, dB: a blurred rendering has 0, detail as "
            "strong but elsewhere 3, speckles more",
        ),
        ("speckled", "speckled", True, f"share of images with a grain above {grainy:g} dB"),
    ]
    judged = [
        ("features", "features", True, "distance in SqueezeNet's features", ("SqueezeNet",)),
        ("identity", f"identity{worth}", True, "distance of face descriptors to the photo's", FACES[:1]),
        ("same", "same person", False, f"share of images under {same:g} in that distance", FACES[:1]),
    ]
    known = [Column(*each, PIXELS) for each in pixels]
    known += [Column(key, label, low, words, _named(board, who)) for key, label, low, words, who in judged]
    order = ("mse", "ssim", "distance", "features", "identity", "same", "grain", "speckled")
    return _there(board, sorted(known, key=lambda column: order.index(column.key)))


def editability(board: Board) -> list[Column]:
    """What becomes of a photo's person when the inversion is edited, at equal response of the judge."""
    out = []
    said = _named(board, FACES)
    for edit in board.protocol.edits:
        name, to = edit.direction, f"{edit.measure} changed by {edit.change:g}"
        out += [
            Column(f"{name}_reached", f"{name} reached", False, f"share of images in which the judge sees {to}", said),
            Column(
                f"{name}_kept",
                f"{name} kept",
                False,
                f"{to}, the face is still the photo's person, and the edit its own",
                said,
            ),
            Column(
                f"{name}_borrowed",
                f"{name} borrowed",
                True,
                "correlation of what the edit changes in the picture with what it changes in the generator's mean face: from "
                f"{board.protocol.borrowed:g} it is not the picture's own",
                PIXELS,
            ),
            Column(
                f"{name}_side",
                f"{name} side",
                True,
                "what else changed by then, in standard deviations of photos",
                said,
            ),
        ]
        out += [
            Column(
                f"{name}_identity_{change:g}",
                f"{name}, identity at {change:g}",
                True,
                f"distance of face descriptors to the photo's where {edit.measure} has changed so far, of those images that get "
                "there",
                said,
                f"{change:g}",
            )
            for change in edit.changes
        ]
    return _there(board, out)


def _there(board: Board, columns: Sequence[Column]) -> list[Column]:
    """Those that some row has."""
    known = {name for methods in board.rows.values() for row in methods.values() for name in row.values}
    return [column for column in columns if column.key in known]


def _named(board: Board, names: Sequence[str]) -> str:
    return "; ".join(judge for name in names for judge in board.judges if judge.startswith(name))
