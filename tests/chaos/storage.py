"""The S3 server of a run: started, killed and started again, with its bucket and its data set."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
from PIL import Image

from tests.chaos.processes import MARK, answers, free_port, wait_for

BUCKET = "chaos"


class S3Server:
    """A server process over ``folder``, which outlives it; use as a context manager.

    ``environment`` is what a client needs to find it.
    """

    def __init__(self, mark: str, folder: Path) -> None:
        self._mark, self._folder, self._port = f"{mark}/s3/", folder, free_port()
        self._seen: dict[str, bool] = {}
        self.url = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.s3_server", str(self._port), str(self._folder)]
        self._process = subprocess.Popen(
            command, env={**os.environ, MARK: self._mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: answers(self._port), 120, "the S3 server")

    def kill(self) -> int:
        """``kill -9``; the process it was."""
        self._process.kill()
        self._process.wait()
        return self._process.pid

    def files(self) -> fsspec.AbstractFileSystem:
        return fsspec.filesystem("s3", endpoint_url=self.url, key="test", secret="test", use_listings_cache=False)

    def parts(self, collection: str) -> int:
        """How many parts of a collection were acknowledged; read from the journal, so also while the server is down."""
        for path in self._folder.glob("*.request"):
            if path.name not in self._seen:
                with path.open("rb") as file:
                    self._seen[path.name] = f'"/{BUCKET}/{collection}/part-'.encode() in file.readline()
        return sum(self._seen.values())


def put_images(server: S3Server, count: int, bad: int, seed: int) -> str:
    """``count`` small images in tar shards, ``bad`` of them cut short; their URL."""
    rng = np.random.default_rng(seed)
    cut = set(rng.choice(count, bad, replace=False).tolist())
    files = server.files()
    files.mkdir(BUCKET)
    for first in range(0, count, 250):
        shard = io.BytesIO()
        with tarfile.open(fileobj=shard, mode="w") as tar:
            for index in range(first, min(first + 250, count)):
                coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
                image = io.BytesIO()
                Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(image, "PNG")
                data = image.getvalue()[: 200 if index in cut else None]
                member = tarfile.TarInfo(f"image-{index:05d}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        files.pipe_file(f"{BUCKET}/in/shard-{first // 250:03d}.tar", shard.getvalue())
    return f"s3://{BUCKET}/in"
