"""Edits by a reference, judged: is an attribute taken over from another photo, and nothing else? (Hu et al. 2022, "Style
Transformer", section 3.3)"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.judges import identity_distance, measure_faces, measure_haze, open_glasses_probe
from ganinv.leaderboard.jury import Numbers, installed
from ganinv.leaderboard.protocol import AskedReference

EDITOR, KEEP, SWAP = "reference-editor", "control-keep", "control-swap"
"""Rows of the table: the editor, the unedited source, and the reference's whole code instead of the source's."""
SAID = ("taken", "closed", "side", "identity", "to_reference")
"""Numbers of each row and attribute, in the table's order."""


def partners(measure: np.ndarray) -> np.ndarray:
    """For each image the reference [N] to take over from: the one half of the images further in the order of the measure [N],
    so that most pairs differ in it."""
    order, out = np.argsort(measure, kind="stable"), np.empty(len(measure), int)
    out[order] = np.roll(order, -(len(order) // 2))
    return out


class ReferenceJury:
    """Judges of the attributes that are taken over (glasses included), and of whose face it is.

    Raises:
        ConfigError: the packages of the extra ``judges`` are missing.
    """

    def __init__(self) -> None:
        self.faces, net, absent = installed()
        if self.faces is None or net is None:
            raise ConfigError(next(iter(absent.values())))
        self.glasses = open_glasses_probe(net=net)

    def see(self, images: Tensor) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Measures [B] by name, and descriptors [B, 128], of images [B, 3, R, R]."""
        assert self.faces is not None
        images = images.float().clamp(-1, 1).cpu()
        found = self.faces.look(images)
        measures = measure_faces(found) | measure_haze(images) | {"glasses": self.glasses.probability(images, found)}
        return measures, self.faces.describe(found)


def taken_over(
    spreads: Mapping[str, float],
    asked: AskedReference,
    which: np.ndarray,
    photos: tuple[Mapping[str, np.ndarray], np.ndarray],
    before: Mapping[str, np.ndarray],
    edited: tuple[Mapping[str, np.ndarray], np.ndarray],
) -> Numbers:
    """Numbers of B edits, each with photo ``which`` [B] as its reference; NaN for pairs whose photos do not differ by
    ``asked.gap``.

    ``closed``: share of the photos' difference by which the edit changed the rendering (``before``). ``taken``: whether that is
    half or more. ``side``: mean change of other measures, in spreads of photos. ``identity``, ``to_reference``: distance of
    descriptors to the source's photo and to the reference's.
    """
    (measures, people), (after, faces) = photos, edited
    gap = measures[asked.measure][which] - measures[asked.measure]
    closed = (after[asked.measure] - before[asked.measure]) / np.where(np.abs(gap) >= asked.gap, gap, np.nan)
    others = {name: spread for name, spread in spreads.items() if name != asked.measure}
    side = np.mean([np.abs(after[name] - before[name]) / spread for name, spread in others.items()], axis=0)
    out = {
        "closed": closed,
        "taken": np.where(np.isnan(closed), np.nan, closed >= 0.5),
        "side": side,
        "identity": identity_distance(faces, people),
        "to_reference": identity_distance(faces, people[which]),
    }
    return {name: np.where(np.isnan(closed), np.nan, out[name]) for name in SAID}
