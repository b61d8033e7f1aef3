"""Settings of every job that reads stored codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from ganinv.config import StrictModel

if TYPE_CHECKING:
    from ganinv.generators.stylegan2 import Generator
    from ganinv.records import CodeReader
    from ganinv.store import Collection, Store

PLACES = {"encoders", "needed"}
"""Fields that hold locations and do not change results: fingerprints are compared instead."""


class CodesJob(StrictModel):
    """A job that reads codes.

    Args:
        encoders: current locations of inverters that have moved since the codes were made, by the name that the method used.
        needed: networks that these depend on and their files do not contain, by role (``w_encoder``).
    """

    encoders: Mapping[str, str] = Field(default_factory=dict)
    needed: Mapping[str, str] = Field(default_factory=dict)

    def reader(self, store: Store, collection: Collection, generator: Generator) -> CodeReader:
        """Of the codes of a collection."""
        from ganinv.records import CodeReader

        return CodeReader(store, collection, generator, encoders=self.encoders, needed=self.needed)
