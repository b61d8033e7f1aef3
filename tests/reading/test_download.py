"""Downloads from a real server: whole or not at all, resumed where they stopped, refused by their first bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from ganinv.reading import download as module
from ganinv.reading.download import download
from ganinv.reading.fetch import cache_folder, fetch
from tests.reading.host import PAGE, Host, serving
from tests.tiny import tiny_generator

DATA = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(module, "WAITS", (0.01, 0.01))
    with serving() as host:
        host.files["/g.pkl"] = DATA
        yield host


def names(folder: Path) -> list[str]:
    """What is there beside the lock, which stays."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".lock-"))


def test_a_file_comes_whole_and_says_how_far_it_is(host: Host, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(f"{host.url}/g.pkl", tmp_path / "deep/g", sha256=SHA256, progress=lambda done, of: seen.append((done, of)))
    assert (tmp_path / "deep/g").read_bytes() == DATA
    assert names(tmp_path / "deep") == ["g"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert host.asked == [("/g.pkl", "")]


def test_a_broken_connection_is_resumed(host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 300_000]
    download(f"{host.url}/g.pkl", tmp_path / "g", sha256=SHA256)
    assert (tmp_path / "g").read_bytes() == DATA
    assert host.asked == [("/g.pkl", ""), ("/g.pkl", "bytes=400000-"), ("/g.pkl", "bytes=700000-")]


def test_a_connection_that_breaks_often_but_gets_further_is_no_failure(host: Host, tmp_path: Path) -> None:
    host.cuts = [100_000] * 9
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA


def test_a_host_without_ranges_sends_it_again(host: Host, tmp_path: Path) -> None:
    host.ranges, host.cuts = False, [400_000]
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA


def test_without_a_version_no_part_is_asked_for(host: Host, tmp_path: Path) -> None:
    host.versions, host.cuts = False, [400_000]
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA
    assert host.asked == [("/g.pkl", "")] * 2


def test_what_came_is_kept_for_the_next_run(host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 0, 0]
    with pytest.raises(WeightsRefused, match=r"3 connections ended early.*400000 bytes of it are kept, run again"):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    assert names(tmp_path) == [".part-g", ".part-g.json"]
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA
    assert host.asked[-1] == ("/g.pkl", "bytes=400000-")
    assert names(tmp_path) == ["g"]


def test_without_a_version_nothing_is_kept(host: Host, tmp_path: Path) -> None:
    host.versions, host.cuts = False, [400_000, 0, 0]
    with pytest.raises(WeightsRefused, match=r"3 connections ended early.*it ended after 0 of 1000000 bytes$"):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    assert names(tmp_path) == []


def test_parts_of_two_versions_never_meet(host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 0, 0]
    with pytest.raises(WeightsRefused):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    host.files["/g.pkl"] = newer = random.Random(1).randbytes(1_000_000)
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == newer


def test_a_shorter_new_version_is_sent_whole(host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 0, 0]
    with pytest.raises(WeightsRefused):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    host.files["/g.pkl"] = DATA[:1000]
    download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA[:1000]


def test_a_part_that_was_spoilt_is_found_by_the_hash_and_sent_again(host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 0, 0]
    with pytest.raises(WeightsRefused):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    with (tmp_path / ".part-g").open("r+b") as part:
        part.write(b"\0" * 5000)
    download(f"{host.url}/g.pkl", tmp_path / "g", sha256=SHA256)
    assert (tmp_path / "g").read_bytes() == DATA


def test_another_hash_is_refused_and_not_kept(host: Host, tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match=f"its sha256 is {SHA256}, expected 0000"):
        download(f"{host.url}/g.pkl", tmp_path / "g", sha256="0" * 64)
    assert names(tmp_path) == []
    assert len(host.asked) == 1


def test_a_killed_process_is_resumed(host: Host, tmp_path: Path) -> None:
    host.hold = threading.Event()
    code = (
        "import sys; from pathlib import Path; from ganinv.reading.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"{host.url}/g.pkl", str(tmp_path / "g")])
    part, end = tmp_path / ".part-g", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 260_000) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    host.hold.set()
    host.hold = None
    kept = part.stat().st_size
    assert kept >= 260_000
    download(f"{host.url}/g.pkl", tmp_path / "g", sha256=SHA256)
    assert host.asked == [("/g.pkl", ""), ("/g.pkl", f"bytes={kept}-")]


def test_a_process_killed_at_the_end_downloads_nothing_again(host: Host, tmp_path: Path) -> None:
    host.cuts = [999_999, 0, 0]
    with pytest.raises(WeightsRefused):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    with (tmp_path / ".part-g").open("ab") as part:
        part.write(DATA[-1:])
    host.asked.clear()
    download(f"{host.url}/g.pkl", tmp_path / "g", sha256=SHA256)
    assert host.asked == []


def test_two_at_once_download_once(host: Host, tmp_path: Path) -> None:
    host.hold = threading.Event()
    threads = [threading.Thread(target=download, args=(f"{host.url}/g.pkl", tmp_path / "g")) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)  # all are under way, one holds the part
    host.hold.set()
    host.hold = None
    host.cuts = []
    for thread in threads:
        thread.join(60)
    assert (tmp_path / "g").read_bytes() == DATA
    assert names(tmp_path) == ["g"]
    assert sum(range_ == "" for _, range_ in host.asked) == 1


@pytest.mark.parametrize(
    ("status", "words", "tries"),
    [
        (403, r"does not give it out \(HTTP 403 Forbidden\).*download it in a browser", 1),
        (401, r"does not give it out \(HTTP 401", 1),
        (400, "the host answers HTTP 400 Bad Request", 1),
        (503, "3 connections ended early, the last one: HTTP 503", 3),
    ],
)
def test_a_host_that_refuses(host: Host, tmp_path: Path, status: int, words: str, tries: int) -> None:
    host.status["/g.pkl"] = status
    with pytest.raises(WeightsRefused, match=words):
        download(f"{host.url}/g.pkl", tmp_path / "g")
    assert len(host.asked) == tries
    assert names(tmp_path) == []


def test_a_host_that_is_busy_for_a_moment(host: Host, tmp_path: Path) -> None:
    host.status["/g.pkl"] = 503
    threading.Timer(0.1, host.status.clear).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WAITS", (0.5, 5.0))
        download(f"{host.url}/g.pkl", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA


def test_a_host_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITS", (0.01,))
    with serving() as gone:
        url = gone.url
    with pytest.raises(WeightsRefused, match="2 connections ended early, the last one: ConnectionRefusedError"):
        download(f"{url}/g.pkl", tmp_path / "g")


def test_no_such_file(host: Host, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="HTTP 404"):
        download(f"{host.url}/none.pkl", tmp_path / "g")
    assert names(tmp_path) == []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANINV_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def test_a_quota_page_is_refused_before_the_rest_comes(host: Host, cache: Path) -> None:
    host.files["/page.pkl"] = PAGE + b" " * 5_000_000
    host.cuts = [200_000]
    with pytest.raises(
        WeightsRefused, match=r"a web page, not a checkpoint \(titled 'Google Drive - Quota exceeded'\)"
    ):
        fetch(f"{host.url}/page.pkl")
    assert names(cache) == []
    assert [path for path, _ in host.asked] == ["/page.pkl"]


def test_an_empty_file_is_refused(host: Host, cache: Path) -> None:
    host.files["/empty.pkl"] = b""
    with pytest.raises(WeightsRefused, match="it is empty"):
        fetch(f"{host.url}/empty.pkl")
    assert names(cache) == []


def test_a_generator_opens_over_a_connection_that_breaks(host: Host, cache: Path, tmp_path: Path) -> None:
    save_generator(tiny_generator(), str(tmp_path / "g.pt"), "nvidia")
    host.files["/tiny.pkl"] = data = (tmp_path / "g.pt").read_bytes()
    host.cuts = [100_000]
    assert open_generator(f"{host.url}/tiny.pkl").fingerprint == tiny_generator().fingerprint
    assert host.asked[-1] == ("/tiny.pkl", "bytes=100000-")
    assert [path.read_bytes() for path in cache.iterdir() if not path.name.startswith(".lock-")] == [data]


def test_no_space_left_is_said_in_words(host: Host, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from ganinv.reading.download import download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, f"{host.url}/g.pkl", str(tmp_path / "g")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert "no space left in" in result.stderr
    assert "GANINV_CACHE" in result.stderr
