"""An S3 server as a process that can be killed: ``python -m tests.chaos.s3_server PORT FOLDER``.

Moto keeps its objects in memory. Here every request that changes something is journalled in the folder before it is
answered, and carried out again by the next process, so what was acknowledged survives ``kill -9``, as on a real server.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from werkzeug.test import EnvironBuilder, run_wsgi_app

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Journal:
    """A WSGI application whose changes are written down. One change at a time, so conditional writes are atomic."""

    def __init__(self, app: Application, folder: Path) -> None:
        self._app, self._folder, self._lock = app, folder, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(folder.glob("*.request"))
        self._numbers = itertools.count(len(entries))
        for entry in entries:
            head, body = entry.read_bytes().split(b"\n", 1)
            made = {**EnvironBuilder().get_environ(), **json.loads(head), "wsgi.input": io.BytesIO(body)}
            run_wsgi_app(self._app, made, buffered=True)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            answer, status, headers = run_wsgi_app(self._app, environ, buffered=True)
            if status.startswith("2"):
                self._write(environ, body)
        start_response(status, headers.to_wsgi_list())
        return answer

    def _write(self, environ: dict[str, Any], body: bytes) -> None:
        head = {key: value for key, value in environ.items() if isinstance(value, str)}
        path = self._folder / f"{next(self._numbers):08d}.request"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(json.dumps(head).encode() + b"\n" + body)
        temporary.replace(path)


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    os.environ["MOTO_PORT"] = str(port)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    app = Journal(DomainDispatcherApplication(create_backend_app), folder)
    make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main()
