"""What a report is about."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ganinv.config import StrictModel


class ReportRequest(StrictModel):
    """Names of the collections to report on. Entries that are None, missing or empty are left out of the report."""

    samples: str | None = None
    latents: tuple[str, ...] = ()
    """Inversions of one data set, one collection per method, in the order in which they are shown."""
    edits: str | None = None
    """Edited inversions; their scores are in the ``edit-metrics`` of the same name."""
    pasted: str | None = None
    """Photos with edited faces pasted back; the report starts with them."""
    others: tuple[str, ...] = ()
    """Inversions of another data set, one per method. They are shown side by side, and not counted with the others."""
    others_title: str = "Other images"
    training: str | None = None
    """Training curves of an encoder."""
    title: str
    max_strips: int = Field(default=12, ge=1)
    """Largest number of images shown side by side."""
    encoders: Mapping[str, str] = Field(default_factory=dict)
    """Where inverters are now, by name, if they are not where they were when the codes were made."""
    needed: Mapping[str, str] = Field(default_factory=dict)
    """Other inverters that these depend on, by role."""
