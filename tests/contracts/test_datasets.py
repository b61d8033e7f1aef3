"""Every kind of data set does what all promise."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganinv.data.shards import SHARDS
from tests.contracts.datasets import CHECKS, Writer


def folder_of_files(folder: Path, content: Mapping[str, bytes]) -> str:
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return str(folder)


def tar_shard(folder: Path, content: Mapping[str, bytes]) -> str:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return str(folder)


def parquet(folder: Path, content: Mapping[str, bytes]) -> str:
    pq.write_table(pa.table({"image_id": list(content), "image": list(content.values())}), folder / "images.parquet")
    return str(folder / "images.parquet")


WRITERS: Mapping[str, Writer] = {"files": folder_of_files, ".tar": tar_shard, "parquet": parquet}


def test_every_kind_of_shard_is_checked() -> None:
    """One that is registered has a writer here, or a test of its own named after it."""
    own = {path.stem.removeprefix("test_") for path in (Path(__file__).parents[1] / "data").glob("test_*.py")}
    assert set(SHARDS) <= {*WRITERS, *(f".{name}" for name in own)}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", WRITERS)
def test_data_set(kind: str, check: str, tmp_path: Path) -> None:
    CHECKS[check](WRITERS[kind], tmp_path)
