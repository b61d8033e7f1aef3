"""One store of every kind of file system: local folder, memory, and S3 spoken by a real server on this machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ganinv.store import Store, open_store


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    """Storage options of an S3 server with a bucket ``ganinv-test``."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    fsspec.filesystem("s3", **options).mkdir("ganinv-test")
    yield options
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    root = uuid.uuid4().hex
    if request.param == "memory":
        return open_store(f"memory://{root}")
    return open_store(f"s3://ganinv-test/{root}", **request.getfixturevalue("s3_options"))
