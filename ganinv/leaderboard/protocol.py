"""The protocol: everything that influences a number of the leaderboard. If you change a value, give the protocol another
name."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ganinv.config import StrictModel, digest

CHANNEL = "channel-"
"""Prefix of the names of directions that are one channel of S."""
BEFORE = {"leaderboard-3": "leaderboard-2"}
"""The protocol before this one. What is new adds numbers and changes none, so rows that were judged by it stay."""

SPREADS: Mapping[str, float] = {
    "yaw": 0.095,
    "mouth_width": 0.104,
    "eye_opening": 0.049,
    "brightness": 0.071,
    "contrast": 0.046,
    "detail": 0.017,
    "saturation": 0.088,
}
"""Standard deviations of the judges' measures over 426 of the official portraits (every fifth)."""


class AskedEdit(StrictModel):
    """An edit that every method has to make, and whose effect a judge measures in the picture.

    Args:
        direction: of the store, fitted on samples of the generator.
        measure: of ``ganinv.judges``: what has to change.
        change: by how much it has to change, in the measure's own unit, for the edit to count as made.
        changes: the range over which identity is followed.
    """

    direction: str
    measure: str
    change: float
    changes: tuple[float, ...] = ()


class AskedReference(StrictModel):
    """An attribute that is to be taken over from a reference.

    Args:
        attribute: the editor's name for it. measure: of ``ganinv.judges``, which shows it.
        gap: smallest difference of two photos in the measure for which a pair counts.
    """

    attribute: str
    measure: str
    gap: float = Field(gt=0)


class LeaderboardProtocol(StrictModel):
    """Two boards are comparable if the digests of their protocols are equal.

    Args:
        reference: the method that ratios refer to.
        edits: edits that every method has to make; yaw and the width of the mouth are in units of the distance between the
            eyes.
        same_person: distance of face descriptors below which two images show one person. dlib's value is 0.6, for photographs
            of many pixels and of all kinds of people. At 64 pixels, portraits of one person are 0.21 apart (0.28 at most) and
            portraits of two at least 0.45, while the generator's mean face is nearer than 0.6 to nearly everybody.
        strengths: of the directions, tried from weak to strong; values between two of them are interpolated.
        borrowed: correlation of what an edit changes in a picture with what it changes in the generator's mean face, from which
            the change counts as that face's and not the picture's own. Methods that invert have 0.6 at most; pixels copied over
            the mean face have 0.9 and more.
        spreads: standard deviations of the measures over photographs; side effects are in these units.
        speckled: dB of grain from which a rendering counts as speckled. Detail as strong as the source's own, all of it in the
            wrong place, has 3.
        samples, truncation_psi, seed: of the generator's own images, which are inverted beside photographs because their true
            code exists.
        fitted_on: number of samples that directions are fitted on.
        resamples: of the bootstrap behind the intervals.
        consistency: strength of the edits that an inversion has to find again (e4e's LEC).
        channels: edits by one channel of S each, beside those in W. There is none for yaw: the channel that is fitted for it
            reached the asked change in none of 320 inversions. channel_strengths: for these edits, which have less effect.
        references: what the editor ``reference_editor`` takes over from another photo.
        halves: the edit of ``edits`` that is made to the half of a data set with the lowest values of its measure. halves_from:
            number of images that a data set needs for it.
    """

    name: str = "leaderboard-3"
    reference: str = "e4e"
    edits: tuple[AskedEdit, ...] = (
        AskedEdit(direction="yaw", measure="yaw", change=0.08, changes=(0.04, 0.08, 0.12, 0.16)),
        AskedEdit(direction="smile", measure="mouth_width", change=0.08, changes=(0.04, 0.08, 0.12, 0.16)),
    )
    same_person: float = Field(0.4, gt=0)
    borrowed: float = Field(0.8, gt=0)
    strengths: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    spreads: Mapping[str, float] = SPREADS
    speckled: float = 4.0
    samples: int = Field(48, ge=2)
    truncation_psi: float = 0.8
    seed: int = 60_000
    fitted_on: int = Field(6_000, ge=100)
    resamples: int = Field(1_000, ge=100)
    consistency: float = Field(2.0, gt=0)
    channels: tuple[AskedEdit, ...] = (
        AskedEdit(direction=f"{CHANNEL}smile", measure="mouth_width", change=0.08, changes=(0.04, 0.08)),
    )
    channel_strengths: tuple[float, ...] = (6.0, 12.0)
    reference_editor: str = "reference-editor"
    references: tuple[AskedReference, ...] = (
        AskedReference(attribute="smile", measure="mouth_width", gap=0.104),
        AskedReference(attribute="glasses", measure="glasses", gap=0.5),
    )
    halves: str = "smile"
    halves_from: int = Field(120, ge=8)

    @property
    def digest(self) -> str:
        """sha256 of all settings."""
        return digest(self)

    @property
    def judged_digest(self) -> str:
        """sha256 of the settings that influence numbers which a board of ``leaderboard-2`` has too, computed as it was for that
        protocol."""
        name = next((self.name.replace(now, was) for now, was in BEFORE.items() if now in self.name), self.name)
        return digest({**self.model_dump(mode="json", exclude=set(ADDED)), "name": name})

    @property
    def without_edits(self) -> LeaderboardProtocol:
        """The protocol for generators of images that have no yaw and no smile."""
        none = {"edits": (), "channels": (), "references": (), "halves": ""}
        return self.model_copy(update={**none, "name": f"{self.name}-without-edits"})

    @property
    def of_channels(self) -> LeaderboardProtocol:
        """The protocol with the channels instead of the directions in W."""
        return self.model_copy(update={"edits": self.channels, "strengths": self.channel_strengths})


ADDED = ("consistency", "channels", "channel_strengths", "reference_editor", "references", "halves", "halves_from")
"""Settings that ``leaderboard-2`` did not have."""
