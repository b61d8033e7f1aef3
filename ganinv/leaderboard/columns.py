"""What the columns of a board mean, and who measures each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ganinv.judges.identity import ENOUGH
from ganinv.leaderboard.board import BOTH, Board
from ganinv.leaderboard.protocol import AskedEdit
from ganinv.report.words import Measure

FACES = ("dlib face descriptor", "dlib landmarks")
PIXELS = "no net"
"""Who measures it, for measures without a judge."""


@dataclass(frozen=True)
class Column(Measure):
    """A measure of a board.

    Args:
        judges: who measures it, with version and hash.
        along: if it is one of several along the range of an edit: the position, as a number.
        ranked: whether a value can be better than another one.
    """

    judges: str
    along: str = ""
    ranked: bool = True

    @property
    def arrow(self) -> str:
        return super().arrow if self.ranked else ""


def fidelity(board: Board) -> list[Column]:
    """How close a rendering is to its photo, and whether it shows the same person."""
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
            "embedded distance, in features of the generator's own discriminator. Methods minimise it, so it is no judge: it "
            "says little about identity, and favours what was optimised for it, such as projection to W",
        ),
        (
            "grain",
            "grain",
            True,
            "energy of the error in the finest detail, relative to the photo's own detail, in dB. A blurred rendering has 0, "
            "detail of the right strength in the wrong places 3, speckles more",
        ),
        ("speckled", "speckled", True, f"share of images with a grain above {grainy:g} dB"),
    ]
    judged = [
        ("features", "features", True, "distance in SqueezeNet's features", ("SqueezeNet",)),
        (
            "identity",
            f"identity{worth}",
            True,
            "distance between the face descriptors of rendering and photo",
            FACES[:1],
        ),
        ("same", "same person", False, f"share of images whose identity distance is below {same:g}", FACES[:1]),
    ]
    known = [Column(*each, PIXELS) for each in pixels]
    known += [Column(key, label, low, words, _named(board, who)) for key, label, low, words, who in judged]
    order = ("mse", "ssim", "distance", "features", "identity", "same", "grain", "speckled")
    return _there(board, sorted(known, key=lambda column: order.index(column.key)))


def editability(board: Board) -> list[Column]:
    """What an edit of the inversion preserves of the person, where the judge sees the same change in all methods."""
    return _there(board, [column for edit in board.protocol.edits for column in _of_edit(board, edit)])


def channels(board: Board) -> list[Column]:
    """The same for edits by one channel of S, each beside the direction in W with the same measure, on images in which both
    reach the requested change."""
    out, said = [], _named(board, FACES)
    for channel in board.protocol.channels:
        same = [edit.direction for edit in board.protocol.edits if edit.measure == channel.measure]
        reached, kept, *_ = _of_edit(board, channel)
        out += [reached, kept]
        for name in (*same, channel.direction):
            both = "" if not same else f", in images where {same[0]} and {channel.direction} both reach that"
            at = f"where {channel.measure} has changed by {channel.change:g}{both}"
            out += [
                Column(f"{name}_side{BOTH}", f"{name} side", True, f"how much else changed {at}", said),
                Column(
                    f"{name}_identity{BOTH}",
                    f"{name} identity",
                    True,
                    f"identity distance to the photo {at}",
                    said,
                ),
            ]
    return _there(board, out)


def references(board: Board) -> list[Column]:
    """What an edit takes over from the photo that it refers to."""
    out = []
    for asked in board.protocol.references:
        name, said = asked.attribute, _named(board, FACES)
        said = said if asked.measure != "glasses" else f"{said}; the glasses probe on SqueezeNet"
        pairs = f"of pairs whose photos differ in {asked.measure} by {asked.gap:g} or more"
        words = {
            "taken": (False, f"share {pairs}, in which the edit closes at least half of that difference"),
            "closed": (False, f"share of the difference that the edit closes, {pairs}"),
            "side": (True, f"how much else it changes, in standard deviations of photos, {pairs}"),
            "identity": (True, f"distance of face descriptors to the photo that is edited, {pairs}"),
            "to_reference": (False, f"distance of face descriptors to the reference, {pairs}"),
        }
        out += [
            Column(f"{name}_{key}", f"{name} {key.replace('_', ' ')}", lower, text, said)
            for key, (lower, text) in words.items()
        ]
    return out


def consistencies(board: Board) -> list[Column]:
    """Whether a method finds an edit of its own inversion again (Tov et al. 2021, section 4)."""
    out = []
    for edit in board.protocol.edits:
        name, by = edit.direction, board.protocol.consistency
        out += [
            Column(
                f"{name}_lec",
                f"{name} LEC",
                True,
                f"latent editing consistency: the inversion is edited ({name}, {by:g}), rendered and inverted again by the "
                "method, and the edit is taken back. Given is the distance of that W+ to the first one, in lengths of the edit. "
                "A method that sees nothing of the edit has 1",
                PIXELS,
            ),
            Column(
                f"{name}_cycle",
                f"{name} LEC unedited",
                True,
                "the same without an edit, in the same lengths: what inverting one's own rendering already loses",
                PIXELS,
            ),
            Column(
                f"{name}_found",
                f"{name} found",
                False,
                "how far the second W+ has moved along the edit: 1 is the whole edit, more is beyond it",
                PIXELS,
                ranked=False,
            ),
        ]
    compared = "the part of the codes that is compared: W+ alone, even if a method stores more"
    there = _there(board, out)
    return [*there, Column("compared", "compared", True, compared, PIXELS, ranked=False)] if there else []


def _of_edit(board: Board, edit: AskedEdit) -> list[Column]:
    said = _named(board, FACES)
    name, to = edit.direction, f"{edit.measure} changed by {edit.change:g}"
    return [
        Column(f"{name}_reached", f"{name} reached", False, f"share of images in which the judge sees {to}", said),
        Column(
            f"{name}_kept",
            f"{name} kept",
            False,
            f"share of images with {to} in which the face is still that of the photo's person, and the edit is not borrowed",
            said,
        ),
        Column(
            f"{name}_borrowed",
            f"{name} borrowed",
            True,
            "correlation between what the edit changes in the picture and what it changes in the generator's mean face: from "
            f"{board.protocol.borrowed:g} on, the edit counts as borrowed from that face",
            PIXELS,
        ),
        Column(
            f"{name}_side",
            f"{name} side",
            True,
            "how much else has changed by then, in standard deviations of photos",
            said,
        ),
        *(
            Column(
                f"{name}_identity_{change:g}",
                f"{name}, identity at {change:g}",
                True,
                f"identity distance to the photo where {edit.measure} has changed by this much, of the images that reach it",
                said,
                f"{change:g}",
            )
            for change in edit.changes
        ),
    ]


def _there(board: Board, columns: Sequence[Column]) -> list[Column]:
    """Columns that at least one row has."""
    known = {name for methods in board.rows.values() for row in methods.values() for name in row.values}
    return [column for column in columns if column.key in known]


def _named(board: Board, names: Sequence[str]) -> str:
    return "; ".join(judge for name in names for judge in board.judges if judge.startswith(name))
