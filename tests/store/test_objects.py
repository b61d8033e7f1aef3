from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.utils import parse_timestamp

from ganinv.data.source import Place, SourceRef
from ganinv.errors import ConfigError, StoreError, StoreUnavailable
from ganinv.store import Plan, Store, open_store
from ganinv.store.names import checked_name, no_secrets, quoted_id
from ganinv.store.opening import _time, open_url, set_checksum_defaults
from tests.chaos.proxy import FaultyProxy

from .rows import rows, small_plan


@pytest.mark.seconds
def test_one_of_many_creators_wins(store: Store) -> None:
    def create(i: int) -> bool:
        try:
            store.objects.create("folder/one", str(i).encode())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(16)))
    assert won.count(True) == 1
    assert store.objects.read("folder/one") == str(won.index(True)).encode()


@pytest.mark.seconds
def test_listing_sees_what_others_wrote(store: Store) -> None:
    assert store.objects.names("folder") == []
    open_store(store.url, **store.options).objects.put("folder/x", b"1")
    assert store.objects.names("folder") == ["x"]
    store.objects.remove("folder/x")
    store.objects.remove("folder/x")
    assert store.objects.read_if_there("folder/x") is None


def test_ids_stay_inside_the_store_and_apart() -> None:
    hostile = [
        "../../x",
        "a/b",
        "a%2Fb",
        "..",
        ".",
        "/etc/passwd",
        "a\\b",
        "a b",
        "ü",
        "*?[x]",
        "~",
        "x" * 500,
        "x" * 501,
    ]
    names = [quoted_id(image_id) for image_id in hostile]
    assert len(set(names)) == len(hostile)
    assert not {".", ".."} & set(names)
    assert all("/" not in name and "\\" not in name and len(name) <= 180 for name in names)
    assert quoted_id(names[-1]) != names[-1]
    assert quoted_id("portrait_01-a.b") == "portrait_01-a.b"


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../x", "a b", "x" * 129])
def test_names_a_person_chose_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used as a name"):
        checked_name("collection", name)


@pytest.mark.seconds
def test_a_missing_bucket_is_said_in_words(s3_options: dict[str, str]) -> None:
    store = open_store("s3://no-such-bucket/root", **s3_options)
    with pytest.raises(StoreError, match="no such object, folder or bucket"):
        store.latents["x"].start(small_plan())
    with pytest.raises(StoreError, match="no such object, folder or bucket"):
        store.list("latents")


@pytest.mark.seconds
def test_an_unreachable_endpoint_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganinv.store.retrying.PAUSES", [0.01])
    config = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    store = open_store("s3://bucket/x", endpoint_url="http://127.0.0.1:9", key="a", secret="b", config_kwargs=config)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.objects.read("x")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(StoreError, match=r"nosuch://x.*Expected a folder or a URL"):
        open_store("nosuch://x")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied"), (errno.EROFS, "permission")],
)
def test_failed_writes_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    store = open_store(str(tmp_path))

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    store.objects.put("folder/kept", b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=words):
        store.objects.put("folder/kept", b"new")
    with pytest.raises(StoreError, match=words):
        store.objects.create("folder/plan", b"new")
    monkeypatch.undo()
    assert os.listdir(tmp_path / "folder") == ["kept"]
    assert store.objects.read("folder/kept") == b"old"


def test_a_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError, match="there is a file where a folder is needed"):
        open_store(str(tmp_path / "store")).latents["x"].start(small_plan())


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    objects = open_store(str(tmp_path)).objects
    objects.create("one", b"1")
    with pytest.raises(FileExistsError):
        objects.create("one", b"2")
    assert objects.read("one") == b"1"


@pytest.mark.seconds
def test_a_writer_killed_half_way_leaves_no_part(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    collection = store.latents["killed"]
    collection.start(small_plan())
    script = f"""
        import os, signal
        from ganinv.store import open_store
        from tests.store.rows import rows
        real, calls = os.fsync, []
        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == {{}}:  # every put syncs its file, then its folder; the part is the third put
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)
        os.fsync = fsync
        open_store({str(tmp_path)!r}).latents["killed"].write_part(0, rows(["a", "b"]), [], {{{{}}}})
    """
    for call in (1, 3, 5):
        code = textwrap.dedent(script.format(call))
        root = Path(__file__).parents[2]
        process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        assert collection.done() == set()
        visible = {name for name in store.objects.names(collection.path) if not name.startswith(".")}
        assert not any(name.startswith("part") for name in visible)
    collection.write_part(0, rows(["a", "b"]), [], {})
    assert collection.done() == {0}
    assert collection.read().num_rows == 2


def test_storage_that_is_not_aws_gets_no_new_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "AWS_REQUEST_CHECKSUM_CALCULATION"
    monkeypatch.setenv(variable, "x")
    monkeypatch.delenv(variable)
    set_checksum_defaults("s3://b/x", {"endpoint_url": "https://s3.eu-west-1.amazonaws.com"})
    assert variable not in os.environ
    set_checksum_defaults("s3://b/x", {"client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}})
    assert os.environ[variable] == "when_required"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "/etc/passwd"])
def test_no_object_is_outside_the_store(store: Store, path: str) -> None:
    for use in (store.objects.read, store.objects.names, store.objects.remove, lambda p: store.objects.put(p, b"x")):
        with pytest.raises(ConfigError, match="not a path inside the store"):
            use(path)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hunter2@bucket/store",
        "https://files.example/photos.tar?X-Amz-Signature=hunter2",
        "https://files.example/photos.tar?a=b&sig=hunter2",
        "ftp://anna:hunter2@files.example/photos",
    ],
)
def test_a_secret_in_a_url_is_refused_before_it_is_written(url: str) -> None:
    for use in (open_store, lambda u: Plan.of("invert", {"dataset": {"url": [u]}}, {}, ["a"], 1)):
        with pytest.raises(ConfigError, match="in the environment") as refused:
            use(url)
        assert "hunter2" not in str(refused.value)
    no_secrets(["s3://bucket/a@b:c", "memory://x", "https://files.example/a.tar?version=3", "C:/x@y"], "URLs")


def test_times_are_read_as_the_client_reads_them(s3_options: dict[str, str]) -> None:
    for text in ("2026-11-23T01:11:42.123Z", "2026-11-23T01:11:42+02:00", "Mon, 23 Nov 2026 01:11:42 GMT", 1763860302):
        assert _time(text) == parse_timestamp(text)
    with pytest.raises(ValueError, match="nonsense"):
        _time("2026-nonsense")
    fs, _ = open_url("s3://ganinv-test", s3_options)
    fs.pipe_file("ganinv-test/times/one", b"1")
    session = fs.session
    assert session.get_component("response_parser_factory").create_parser("rest-xml")._timestamp_parser is _time
    assert abs(fs.info("ganinv-test/times/one", refresh=True)["LastModified"].timestamp() - time.time()) < 60


def test_a_read_from_s3_is_one_request(s3_options: dict[str, str]) -> None:
    """Each costs money and a round trip; a data set of single files is read by the million."""
    with FaultyProxy(urlsplit(s3_options["endpoint_url"]).netloc, {}) as proxy:
        options = {**s3_options, "endpoint_url": proxy.url}
        objects = open_store("s3://ganinv-test/requests", **options).objects
        objects.put("one.bin", b"123")
        before = proxy.hits["passed"]
        assert objects.read("one.bin") == b"123"
        assert objects.read_if_there("two.bin") is None
        path = "ganinv-test/requests/one.bin"
        assert Place("s3://ganinv-test/requests", options).read(SourceRef(f"s3://{path}", path, length=3)) == b"123"
        assert proxy.hits["passed"] == before + 3
