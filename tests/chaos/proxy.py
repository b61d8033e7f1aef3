"""An HTTP proxy in front of a server that answers badly now and then: 503, answers that break off, connections that close."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


class FaultyProxy:
    """Use as a context manager; its ``url`` takes the place of the server's.

    Args:
        target: ``host:port`` of the server.
        shares: fault -> share of the requests that it hits. ``slow_down`` answers 503 and passes nothing on; ``cut`` passes
            the request on, sends half of the answer's body, or of its head when it has none, and closes; ``lost`` passes
            it on, and closes without an answer.
        seed: of the choice.
    """

    def __init__(self, target: str, shares: Mapping[str, float], seed: int = 0) -> None:
        self.shares, self.hits = dict(shares), Counter[str]()
        self._random, self._lock = random.Random(seed), threading.Lock()
        proxy = self

        class Handler(_Handler):
            server_address = target
            choose = proxy._choose  # type: ignore[assignment]

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _choose(self) -> str | None:
        with self._lock:
            drawn, fault = self._random.random(), None
            for name, share in self.shares.items():
                if fault is None and drawn < share:
                    fault = name
                drawn -= share
            self.hits[fault or "passed"] += 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_address: str
    choose: Any

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = type(self).choose()
        if fault == "slow_down":
            self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        connection = http.client.HTTPConnection(self.server_address, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "lost":
            self._close()
        else:
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
            self._answer(answer.status, kept, content, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        if cut and not content:
            self._close()
            return
        self.send_response_only(status)
        length = (
            [] if any(k.lower() == "content-length" for k, _ in headers) else [("Content-Length", str(len(content)))]
        )
        for key, value in (*headers, *length):
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._close()

    def _close(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass
