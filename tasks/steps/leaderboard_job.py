"""What ``leaderboard`` is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from ganinv.generators.files import EMBEDDED
from ganinv.leaderboard.protocol import LeaderboardProtocol
from tasks.codes import CodesJob
from tasks.jobs.dataset import DatasetRef

SAMPLES = "samples"
"""Name of the data set that the generator made itself."""


class LeaderboardJob(CodesJob):
    """Invert ``datasets`` with ``methods`` and judge each image. Run again with more of either, only what is new is computed.

    Args:
        methods: of configs/methods, or YAML files.
        datasets: by name; a bare URL, or fields of a data set. Samples of the generator are always one of them. skimage://lfw_subset
            is scikit-image's small grey faces.
        limit: number of images per data set, unless the data set has its own limit.
        people: of a data set, by name: a regular expression that captures the person in an image's id. Of data sets with
            several photos of a person: whether the judge of identity tells people apart is measured on them, and printed.
        edits: judge edits too, along directions fitted on samples that the labeller scores. Turn it off for generators of things
            without yaw and smile, or to save time.
        protocol: what is measured and how. A store has one protocol, which cannot be changed.
    """

    store: str
    methods: tuple[str, ...] = Field(min_length=1)
    datasets: Mapping[str, DatasetRef] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)
    people: Mapping[str, str] = Field(default_factory=dict)
    generator: str = EMBEDDED
    labeller: str = "portraits-64"
    edits: bool = True
    protocol: LeaderboardProtocol = LeaderboardProtocol()

    @property
    def followed(self) -> LeaderboardProtocol:
        """The protocol, without its edits where they are not asked for."""
        return self.protocol if self.edits else self.protocol.without_edits

    @field_validator("datasets", mode="before")
    @classmethod
    def _urls(cls, given: Any) -> Any:
        """``NAME: URL``, ``NAME: {url: ...}``, or ``NAME.url: URL`` beside ``NAME.where.split: test``."""
        if not isinstance(given, Mapping):
            return given
        out: dict[str, Any] = {}
        for key, value in given.items():
            *parts, last = key.split(".") if "." in key else (key, "url")
            if not isinstance(value, str | int) and "." not in key:
                out[key] = value
                continue
            inside = out
            for part in parts:
                inside = inside.setdefault(part, {})
            inside[last] = value
        return out

    @field_validator("datasets")
    @classmethod
    def _others(cls, given: Mapping[str, DatasetRef]) -> Mapping[str, DatasetRef]:
        if SAMPLES in given:
            raise ValueError(f"a data set cannot be called {SAMPLES!r}: that is the generator's own")
        return given
