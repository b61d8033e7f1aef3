"""Files from elsewhere: a cache that holds whole files only, found again by URL, version and hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from ganinv.reading import download
from ganinv.reading.fetch import cache_folder, fetch, path_kind
from tests.reading.host import cached
from tests.tiny import tiny_generator


class Host(BaseHTTPRequestHandler):
    """Serves ``files`` and counts the downloads."""

    files: ClassVar[dict[str, bytes]] = {}
    downloads: ClassVar[list[str]] = []
    cut_at: ClassVar[int | None] = None

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.downloads.append(self.path)
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        data = self.files.get(self.path)
        self.send_response(404 if data is None else 200)
        data = data or b""
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[: self.cut_at])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("GANINV_CACHE", str(tmp_path / "cache"))
    save_generator(tiny_generator(), str(tmp_path / "g.pt"), "nvidia")
    Host.files = {"/g.pkl": (tmp_path / "g.pt").read_bytes(), "/page.pkl": b"<!doctype html><html>quota</html>"}
    Host.downloads, Host.cut_at = [], None
    server = HTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_remote_file_is_fetched_once(host: str) -> None:
    first, again = open_generator(f"{host}/g.pkl"), open_generator(f"{host}/g.pkl")
    assert first.fingerprint == again.fingerprint == tiny_generator().fingerprint
    assert Host.downloads == ["/g.pkl"]
    assert len(cached()) == 1


def test_a_known_hash_needs_no_host(host: str) -> None:
    digest = hashlib.sha256(Host.files["/g.pkl"]).hexdigest()
    open_generator(f"{host}/g.pkl", sha256=digest)
    Host.files = {}
    assert open_generator(f"{host}/g.pkl", sha256=digest).provenance.sha256 == digest  # type: ignore[union-attr]


def test_what_is_no_checkpoint_is_not_kept(host: str) -> None:
    with pytest.raises(WeightsRefused, match="it is a web page"):
        open_generator(f"{host}/page.pkl")
    with pytest.raises(WeightsRefused, match=r"its sha256 is .*, expected 0000"):
        open_generator(f"{host}/g.pkl", sha256="0" * 64)
    assert cached() == []


def test_a_broken_connection_leaves_nothing(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAITS", (0.01,))
    Host.cut_at = 2000
    with pytest.raises(
        WeightsRefused, match=r"2 connections ended early, the last one: it ended after 2000 of \d+ bytes"
    ):
        open_generator(f"{host}/g.pkl")
    assert cached() == []
    Host.cut_at = None
    assert open_generator(f"{host}/g.pkl").fingerprint == tiny_generator().fingerprint


def test_missing_files(host: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match="no generator at"):
        open_generator(f"{host}/nothing.pkl")
    with pytest.raises(WeightsRefused, match="no file at"):
        fetch(str(tmp_path / "nothing"))
    with pytest.raises(WeightsRefused, match="cannot be read"):
        open_generator("nosuchprotocol://x/y.pkl")


def test_a_local_file_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANINV_CACHE", str(tmp_path / "cache"))
    save_generator(tiny_generator(), str(tmp_path / "g.pt"), "nvidia")
    open_generator(f"file://{tmp_path}/g.pt")
    assert cached() == []


def test_the_cache_lies_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GANINV_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ganinv/weights"
    monkeypatch.setenv("GANINV_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_server_that_does_not_answer_is_told_from_a_file_that_is_not_there() -> None:
    with pytest.raises(WeightsRefused, match=r"http://127\.0\.0\.1:9/x\.pkl cannot be reached: .*Check the address"):
        path_kind("http://127.0.0.1:9/x.pkl")
