"""Every way in which PREFECT_API_URL can be wrong ends in one sentence, in every command that needs a server."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.address import shown
from tests.flows.test_cli import run_here

COMMANDS = {
    "runs": ("runs",),
    "logs": ("logs", "brave-otter"),
    "cancel": ("cancel", "brave-otter"),
    "submit to": ("submit", "/images", "--store=/store", "--to=invert"),
    "submit": ("submit", "/images", "--store=/store"),
    "run": ("run", "demo", "--store=/store", "--dataset=/images"),
    "demo": ("demo", "--store=/store"),
}
Said = Callable[..., str]


@contextmanager
def serving(answers: dict[str, tuple[int, str, str]]) -> Iterator[str]:
    """A server that answers a path's beginning with (status, type, body), the longest first; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fits = [start for start in answers if self.path.startswith(start)]
            status, kind, body = answers[max(fits, key=len)]
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


PAGE = (200, "text/html", "<html>Prefect</html>")
LOST = (404, "application/json", '{"detail":"Not Found"}')
VERSION = (200, "application/json", '"3.8.8"')


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command says of an address, which must be one sentence."""

    def say(url: str, *arguments: str) -> str:
        monkeypatch.setenv("PREFECT_API_URL", url)
        from prefect.context import use_profile
        from prefect.settings import Profile

        # The environment decides, also where other tests of this process have a server and its settings.
        with use_profile(Profile(name="nothing", settings={}), include_current_context=False):
            code, _, err = run_here(monkeypatch, capsys, *(arguments or ("runs",)))
        assert code == 1
        assert err.startswith("ganinv:")
        assert len(err.strip().splitlines()) == 1
        return err

    return say


@pytest.mark.seconds
@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_api_is_named_by_every_command(said: Said, command: str) -> None:
    with serving({"/": LOST, "/api/admin/version": VERSION}) as address:
        assert f"set PREFECT_API_URL to {address}/api" in said(address, *COMMANDS[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_there_is_said_by_every_command(said: Said, command: str) -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        assert "cannot be reached" in said(f"http://127.0.0.1:{taken.getsockname()[1]}/api", *COMMANDS[command])


@pytest.mark.seconds
def test_a_page_of_the_interface_is_told_from_the_api(said: Said) -> None:
    """Prefect's own server answers every path outside /api with its page."""
    with serving({"/": PAGE, "/api/admin/version": VERSION}) as address:
        for path in ("", "/", "/dashboard", "/runs?tab=flows"):
            assert f"set PREFECT_API_URL to {address}/api" in said(address + path)


@pytest.mark.seconds
@pytest.mark.parametrize("answer", [PAGE, LOST, (200, "application/json", "{}"), (302, "text/html", "")])
def test_another_program_is_not_taken_for_prefect(said: Said, answer: tuple[int, str, str]) -> None:
    with serving({"/": answer}) as address:
        assert "and neither is" in said(address)
        assert "another program's address" in said(f"{address}/api")


@pytest.mark.parametrize("command", ["runs", "submit to", "run"])
def test_a_refusal_names_the_setting(said: Said, command: str) -> None:
    with serving({"/": (401, "application/json", "{}")}) as address:
        assert "PREFECT_API_AUTH_STRING" in said(f"{address}/api", *COMMANDS[command])


def test_a_server_that_is_not_ready(said: Said) -> None:
    with serving({"/": (503, "text/plain", "starting")}) as address:
        assert "try again" in said(f"{address}/api")


@pytest.mark.seconds
def test_a_server_that_fails_later(said: Said) -> None:
    """The address is right, and requests are answered with something that Prefect does not understand."""
    with serving({"/": PAGE, "/api/admin/version": VERSION}) as address:
        assert "does not understand" in said(f"{address}/api")
    with serving({"/": (418, "text/plain", "a teapot"), "/api/admin/version": VERSION}) as address:
        assert "a teapot" in said(f"{address}/api")


@pytest.mark.parametrize("url", ["localhost:4200/api", "127.0.0.1:4200", "ftp://host/api"])
def test_what_is_no_web_address(said: Said, url: str) -> None:
    assert "expected a URL such as http://" in said(url)


def test_a_server_is_named_without_the_password() -> None:
    assert shown("http://me:secret@host:4200/api") == "http://host:4200/api"


def test_a_command_without_a_server_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (tmp_path / "store").mkdir()
    assert run_here(monkeypatch, capsys, "latents", "list", f"--store={tmp_path}/store")[0] == 0
