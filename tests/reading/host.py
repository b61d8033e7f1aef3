"""A real HTTP server on this machine that does what file hosts do: ranges, versions, broken connections, quota pages."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ganinv.reading.fetch import cache_folder

PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Sorry</body></html>"


@dataclass
class Host:
    """What the server gives, and what it was asked.

    Attributes:
        files: path -> bytes. status: path -> answer with this status instead.
        ranges: whether it sends parts. versions: whether it sends an ETag.
        cuts: for each of the next GETs, after how many bytes of its body the connection is closed; None: not at all.
        asked: (path, the Range that was asked for or "") of every GET.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    versions: bool = True
    cuts: list[int | None] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    hold: threading.Event | None = None
    """The body of a GET waits here after its first half."""


@contextmanager
def serving() -> Iterator[Host]:
    """A host on a free port of the loopback interface."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            host.asked.append((self.path, self.headers.get("Range", "")))
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            data = host.files.get(self.path)
            status = host.status.get(self.path, 200 if data is not None else 404)
            if data is None or status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            start = self._start(tag, len(data)) if body else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if host.versions:
                self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            cut = host.cuts.pop(0) if host.cuts else None
            rest = data[start:] if cut is None else data[start : start + cut]
            if host.hold is None:
                self.wfile.write(rest)
                return
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            host.hold.wait(60)

        def _start(self, tag: str, size: int) -> int:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked is None or not host.ranges or int(asked[1]) >= size:
                return 0
            return int(asked[1]) if self.headers.get("If-Range") == tag else 0

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield host
    finally:
        if host.hold is not None:
            host.hold.set()
        server.shutdown()
        server.server_close()


def cached() -> list[Path]:
    """The files in the cache of downloads."""
    there = cache_folder().iterdir() if cache_folder().is_dir() else ()
    return [path for path in there if not path.name.startswith(".lock-")]
