"""Sources of a run, listed once and read by units."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganinv.data import index as index_module
from ganinv.data import open_dataset
from ganinv.data.index import SourceIndex, write_index
from ganinv.errors import DataError
from ganinv.store.objects import Objects


def png(k: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 10 * k, np.uint8)).save(data, "PNG")
    return data.getvalue()


def written(kind: str, folder: Path) -> str:
    """Seven images of one kind of data set."""
    folder.mkdir()
    if kind == "folder":
        for k in range(7):
            (folder / f"é {k}.png").write_bytes(png(k))
    elif kind == "tar":
        with tarfile.open(folder / "a.tar", "w") as tar:
            for k in range(7):
                member = tarfile.TarInfo(f"{k}.png")
                member.size = len(png(k))
                tar.addfile(member, io.BytesIO(png(k)))
    else:
        pq.write_table(
            pa.table({"id": [str(k) for k in range(7)], "png": [png(k) for k in range(7)]}), folder / "a.parquet"
        )
    return str(folder)


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_the_images_of_a_unit_come_from_the_index_alone(
    kind: str, tmp_path: Path, place: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "GROUP", 2)  # a unit then spans several groups
    whole = open_dataset(written(kind, tmp_path / "data"))
    objects = Objects(place[0], place[1])
    write_index(whole, objects, "a/_sources.parquet")
    index = SourceIndex(whole.place, objects, "a/_sources.parquet")
    ids = whole.ids[1:6]
    some = index.dataset(ids[::-1])
    assert dict(some.sources) == {image_id: whole.sources[image_id] for image_id in ids}
    assert some.load(ids, 8).images.equal(whole.load(ids, 8).images)
    for unknown in ("0000", "zzzz"):
        with pytest.raises(DataError, match="of another run"):
            index.dataset([unknown])


def test_the_first_index_of_a_plan_stays(tmp_path: Path) -> None:
    whole = open_dataset(written("folder", tmp_path / "data"))
    objects = Objects(str(tmp_path / "store"))
    write_index(whole, objects, "i")
    first = objects.read("i")
    (tmp_path / "data" / "later.png").write_bytes(png(9))
    write_index(open_dataset(str(tmp_path / "data")), objects, "i")
    assert objects.read("i") == first
