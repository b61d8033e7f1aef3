"""Images made on the spot, and places to put them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

Put = Callable[[str, bytes], None]


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    """Storage options of an S3 server with a bucket ``ganinv-data``."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    fsspec.filesystem("s3", **options).mkdir("ganinv-data")
    yield options
    server.stop()


class Folder:
    """A folder anywhere: ``put`` writes a file, ``url`` and ``options`` open it as a data set."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options

    def put(self, name: str, data: bytes) -> None:
        fs, root = fsspec.url_to_fs(self.url, **self.options)
        path = f"{root}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(str(tmp_path / "data"))
    root = uuid.uuid4().hex
    if request.param == "memory":
        return Folder(f"memory://{root}")
    return Folder(f"s3://ganinv-data/{root}", **request.getfixturevalue("s3_options"))
