"""The sha256 of a file, computed in a thread while the file is read: hashing releases Python's lock."""

from __future__ import annotations

import hashlib
import threading

from ganinv.errors import WeightsRefused
from ganinv.reading.source import Source, aligned

# Between two chunks the thread waits for Python's lock, which a busy thread keeps for 5 ms: 4 MiB take about as long.
_CHUNK = 4 << 20


class Digest:
    """Starts hashing at once. ``result`` waits for the hash, ``stop`` ends the computation.

    It hashes the source that the tensors are read from. It does not open the path again, because the file there could be
    another one by now.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stopped = threading.Event()
        self._hash = hashlib.sha256()
        self._error: WeightsRefused | None = None
        self._thread = threading.Thread(target=self._run, name="ganinv-sha256", daemon=True)
        self._thread.start()

    def result(self) -> str:
        """The hash in lower-case hexadecimal."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._stopped.is_set():
            raise WeightsRefused("the file was closed before its sha256 was known; ask for it before close()")
        return self._hash.hexdigest()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        size = self._source.size
        buffer = aligned(min(_CHUNK, size)).data
        try:
            for start in range(0, size, _CHUNK):
                if self._stopped.is_set():
                    return
                chunk = buffer[: size - start]
                self._source.read_into(start, chunk)
                self._hash.update(chunk)
        except WeightsRefused as error:
            self._error = error
