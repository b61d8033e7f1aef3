"""The sha256 of a file, computed in a thread beside the reading: hashing releases Python's lock."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from ganinv.errors import WeightsRefused
from ganinv.reading.fetch import Fetched

_CHUNK = 1 << 20


class Digest:
    """Starts hashing at once. ``result`` waits for it, ``stop`` gives up."""

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched
        self._stopped = threading.Event()
        self._hash = hashlib.sha256()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="ganinv-sha256", daemon=True)
        self._thread.start()

    def result(self) -> str:
        """The hash in lower-case hexadecimal."""
        self._thread.join()
        if self._error is not None:
            raise WeightsRefused(f"the file cannot be read: {self._error}") from self._error
        if self._stopped.is_set():
            raise WeightsRefused("the file was closed before its sha256 was known; ask for it before close()")
        return self._hash.hexdigest()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        try:
            if self._fetched.data is not None:
                self._hash.update(self._fetched.data)
                return
            with Path(self._fetched.path).open("rb", buffering=0) as file:
                while not self._stopped.is_set() and (chunk := file.read(_CHUNK)):
                    self._hash.update(chunk)
        except OSError as error:
            self._error = error
