"""What a report is asked to be about."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ganinv.config import StrictModel


class ReportRequest(StrictModel):
    """What to report on: names of collections. What is None, missing or empty is left out of the report."""

    samples: str | None = None
    latents: tuple[str, ...] = ()
    """Inversions of one data set, one per method, in the order they are to be shown."""
    edits: str | None = None
    """Edited inversions; their scores are in the ``edit-metrics`` of the same name."""
    pasted: str | None = None
    """Photos with edited faces pasted back: the report opens with them."""
    others: tuple[str, ...] = ()
    """Inversions of another data set, one per method: shown side by side, and not counted with the others."""
    others_title: str = "Other images"
    training: str | None = None
    """Training curves of an encoder."""
    title: str
    max_strips: int = Field(default=12, ge=1)
    """Most images shown side by side."""
    encoders: Mapping[str, str] = Field(default_factory=dict)
    """Where inverters are now, by name, if not where they were when the codes were made."""
    needed: Mapping[str, str] = Field(default_factory=dict)
    """By role, what these start from."""
