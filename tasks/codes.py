"""What every job has that reads stored codes."""

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
"""Fields that say where something is, and change no result: its fingerprint is compared."""


class CodesJob(StrictModel):
    """A job that reads codes.

    Args:
        encoders: where an inverter is now, by the name that the method gave it, if not where it was when the codes were made.
        needed: what these start from where their files do not have it, by role (``w_encoder``).
    """

    encoders: Mapping[str, str] = Field(default_factory=dict)
    needed: Mapping[str, str] = Field(default_factory=dict)

    def reader(self, store: Store, collection: Collection, generator: Generator) -> CodeReader:
        """Of the codes of a collection."""
        from ganinv.records import CodeReader

        return CodeReader(store, collection, generator, encoders=self.encoders, needed=self.needed)
