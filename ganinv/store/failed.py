"""How many images of each unit failed, noted beside the parts while a run goes on: whoever asks how far it came need not read the
errors table of every unit that has errors, of which there may be thousands."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable

from ganinv.errors import GaninvError
from ganinv.store.collection import Collection

NOTE = "_failed.json"
PAUSE = 10.0
"""Seconds from one note to the next."""
_log = logging.getLogger("ganinv.store")


class FailedNote:
    """Written by the process that drives a run. A note stays right when that process is killed: it names the units that it knows,
    and of a unit whose errors table is no older than the note, the table counts (``ganinv.store.progress``).

    Args:
        without: units of which only some images are computed again, so that what is reported of them is not all that failed.
    """

    def __init__(self, collection: Collection, without: Iterable[int] = ()) -> None:
        self._collection, self._without, self._due = collection, frozenset(without), time.monotonic() + PAUSE
        self._counts = noted(collection)
        self._written = bool(self._counts)
        for index in self._without:
            self._counts.pop(index, None)

    def count(self, index: int, failed: int) -> None:
        """Of a unit that is done. A note that cannot be written ends no run: whoever asks reads more tables."""
        if failed and index not in self._without:
            self._counts[index] = failed
        if self._counts and time.monotonic() >= self._due:
            try:
                self.write()
            except (GaninvError, OSError) as error:
                self._due = time.monotonic() + PAUSE
                _log.warning("how many images failed could not be noted: %s", error)

    def write(self) -> None:
        """Write what is known by now."""
        self._collection.objects.put(f"{self._collection.path}/{NOTE}", json.dumps(self._counts).encode())
        self._written, self._due = True, time.monotonic() + PAUSE

    def remove(self) -> None:
        """The run is finished, and its manifest says it all."""
        if self._written:
            self._collection.objects.remove(f"{self._collection.path}/{NOTE}")


def noted(collection: Collection) -> dict[int, int]:
    """Failed images by unit, of the last note; empty if there is none, or if what is there is no note."""
    try:
        found = json.loads(collection.objects.read_if_there(f"{collection.path}/{NOTE}") or b"{}")
        return {int(index): int(failed) for index, failed in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
