"""Who may reach the studio, and what of the machine can be reached through it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from flows.studio.serving import check_password, is_loopback, serving
from ganinv.errors import ConfigError
from tests.chaos.processes import free_port

PASSWORD = "correct-horse"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
        ("::", False), ("10.0.0.7", False), ("example.org", False), ("", False), ("localhost.example.org", False),
    ],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_other_addresses_need_a_password() -> None:
    check_password("127.0.0.1", None)
    check_password("0.0.0.0", PASSWORD)
    with pytest.raises(ConfigError, match=r"set a password in GANINV_STUDIO_PASSWORD or with --password-file"):
        check_password("0.0.0.0", None)
    for short in ("", "1234567"):
        with pytest.raises(ConfigError, match="at least 8 are wanted"):
            check_password("127.0.0.1", short)


def test_the_command_refuses_before_it_opens_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli.studio import studio

    monkeypatch.delenv("GANINV_STUDIO_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="set a password"):
        studio(str(tmp_path / "nowhere"), host="0.0.0.0")
    file = tmp_path / "password"
    with pytest.raises(ConfigError, match="cannot be read"):
        studio(str(tmp_path / "nowhere"), host="0.0.0.0", password_file=file)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="no password in its first line"):
        studio(str(tmp_path / "nowhere"), host="0.0.0.0", password_file=file)


@pytest.fixture(scope="module")
def address(made: Path) -> Iterator[str]:
    pytest.importorskip("gradio")
    from flows.studio.opening import open_studio

    with serving(open_studio(str(made / "store")), port=free_port()) as found:
        yield found.rstrip("/")


@pytest.mark.seconds
def test_no_file_of_the_server_can_be_read(address: str, made: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret of the server")
    plan = made / "store" / "latents" / "e4e" / "plan.json"
    here = Path.cwd() / "pyproject.toml"
    files = [secret, plan, here, Path("/etc/passwd"), Path("/proc/self/environ"), Path(__file__)]
    ways = ("/gradio_api/file={}", "/gradio_api/file=//{}", "/file={}", "/gradio_api/file/{}", "/gradio_api/stream/x/x/x/{}",
            "/static/../../../../../../{}", "/assets/..%2f..%2f..%2f..%2f..%2f..%2f{}", "/gradio_api/proxy=file://{}",
            "/gradio_api/file=..%2f..%2f..%2f..%2f..%2f..%2f..{}", "/svelte/..%2f..%2f..%2f..%2f..%2f{}")  # fmt: skip
    with httpx.Client(base_url=address, timeout=60, follow_redirects=True) as client:
        for file in files:
            content = file.read_bytes()[:40] or b"PATH="
            for way in ways:
                answer = client.get(way.format(file))
                assert answer.status_code >= 400 or content not in answer.content, f"{way} gives {file}"
            assert client.get(f"/gradio_api/file={file}").status_code in (403, 404)
        assert str(made) not in client.get("/config").text
        assert str(made) not in client.get("/").text


def called(address: str, name: str, data: list[Any], session: str) -> dict[str, Any]:
    """What the page's queue answers to one event; ``name``: of its function."""
    with httpx.Client(base_url=address, timeout=120) as client:
        config = client.get("/config").json()
        kinds = {each["id"]: each["type"] for each in config["components"]}
        found = [d for d in config["dependencies"] if [kinds[i] for i in d["inputs"]] == EVENTS[name]]
        assert len(found) == 1, f"one event takes {EVENTS[name]}"
        ask = {"data": data, "fn_index": found[0]["id"], "session_hash": session}
        client.post("/gradio_api/queue/join", json=ask).raise_for_status()
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    return message
    raise AssertionError("the queue ended without an answer")


EVENTS = {"bring": ["state", "file", "radio", "textbox"]}


@pytest.mark.seconds
@pytest.mark.parametrize("path", ["{}", "file://{}", "/tmp/../{}"])
def test_no_file_of_the_server_becomes_an_upload(address: str, tmp_path: Path, path: str) -> None:
    secret = tmp_path / "private.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    file = {"path": path.format(secret), "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
    answer = called(address, "bring", [None, file, "Take the middle", "x.png"], "outside")
    assert not answer["success"] or "gv-strip" not in json.dumps(answer["output"])
    assert "private" not in json.dumps(answer.get("output", {}).get("error") or "")


@pytest.mark.seconds
def test_what_is_uploaded_is_inverted(address: str) -> None:
    """The event of the test above, with a file that did come through the page: it is refused for its place alone."""
    from .conftest import portrait

    sent = httpx.post(f"{address}/gradio_api/upload", files={"files": ("anna.jpg", portrait())}, timeout=60)
    file = {"path": sent.json()[0], "orig_name": "anna.jpg", "meta": {"_type": "gradio.FileData"}}
    answer = called(address, "bring", [None, file, "Take the middle", "anna.jpg"], "inside")
    assert answer["success"]
    assert "anna-" in json.dumps(answer["output"])
    assert "gv-strip" in json.dumps(answer["output"])


@pytest.mark.seconds
def test_with_a_password_nothing_is_shown_without_it(made: Path) -> None:
    pytest.importorskip("gradio")
    from flows.studio.opening import open_studio

    opened = open_studio(str(made / "store"))
    with (
        serving(opened, port=free_port(), password=PASSWORD) as found,
        httpx.Client(base_url=found, timeout=60) as client,
    ):
        for way in ("/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd"):
            assert client.get(way).status_code in (401, 403, 404), way
        assert (
            client.post("/gradio_api/queue/join", json={"data": [], "fn_index": 0, "session_hash": "a"}).status_code
            == 401
        )
        assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert client.post("/login", data={"username": "ganinv", "password": "wrong-horse"}).status_code == 400
        assert client.get("/config").status_code == 401
        client.post("/login", data={"username": "ganinv", "password": PASSWORD}).raise_for_status()
        assert client.get("/config").status_code == 200
        assert client.get("/gradio_api/file=/etc/passwd").status_code in (403, 404)


@pytest.mark.seconds
def test_a_port_that_is_taken(made: Path) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        from flows.studio.opening import open_studio

        with pytest.raises(ConfigError, match="another --port"), serving(open_studio(str(made / "store")), port=port):
            pass
