"""Sources of a run, listed once and read by units."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganinv.data import index as index_module
from ganinv.data import open_dataset
from ganinv.data.index import SourceIndex, write_index
from ganinv.errors import StoreError
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


@pytest.mark.seconds
@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_the_images_of_a_unit_come_from_the_index_alone(
    kind: str, tmp_path: Path, place: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "GROUP", 2)  # a unit then spans several groups
    whole = open_dataset(written(kind, tmp_path / "data"))
    objects = Objects(place[0], place[1])
    assert not SourceIndex(whole.place, objects, "a")
    write_index(whole, objects, "a", whole.ids)
    index = SourceIndex(whole.place, objects, "a")
    ids = whole.ids[1:6]
    some = index.dataset(ids[::-1])
    assert dict(some.sources) == {image_id: whole.sources[image_id] for image_id in ids}
    assert some.load(ids, 8).images.equal(whole.load(ids, 8).images)
    loaded = index.load(["0000", *ids, "zzzz"], 8)
    assert loaded.images.equal(whole.load(ids, 8).images)
    assert [(error.image_id, error.code) for error in loaded.errors] == [("0000", "missing"), ("zzzz", "missing")]


@pytest.mark.seconds
def test_images_that_come_later_have_an_index_of_their_own(
    tmp_path: Path, place: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "GROUP", 2)
    folder, objects = tmp_path / "data", Objects(place[0], place[1])
    first = open_dataset(written("folder", folder))
    write_index(first, objects, "a", first.ids)
    old, before = SourceIndex(first.place, objects, "a"), objects.read("a/_sources.parquet")
    for name in ("a", "é 3b", "z"):  # one before the others, one among them, one after
        (folder / f"{name}.png").write_bytes(png(9))
    whole = open_dataset(str(folder))
    write_index(whole, objects, "a", ["a", "é 3", "é 3b"])
    write_index(whole, objects, "a", [*whole.ids, "of another run"])
    write_index(whole, objects, "a", whole.ids)
    names = ["_sources-0001.parquet", "_sources-0002.parquet", "_sources.parquet"]
    assert objects.names("a") == names
    assert objects.read("a/_sources.parquet") == before
    for index in (SourceIndex(whole.place, objects, "a"), old):  # also one that a worker opened before
        assert dict(index.dataset(whole.ids).sources) == dict(whole.sources)


@pytest.mark.seconds
def test_many_that_write_at_once_lose_nothing(tmp_path: Path, place: tuple[str, dict[str, str]]) -> None:
    whole, objects = open_dataset(written("folder", tmp_path / "data")), Objects(place[0], place[1])
    halves = [whole.ids[:4], whole.ids[3:], whole.ids[2:5]]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda ids: write_index(whole, objects, "a", ids), halves))
    assert SourceIndex(whole.place, objects, "a").dataset(whole.ids).ids == whole.ids
    rows = sum(pq.read_metadata(io.BytesIO(objects.read(f"a/{name}"))).num_rows for name in objects.names("a"))
    assert rows == 7


def test_without_any_index_nothing_is_taken_for_gone(tmp_path: Path) -> None:
    whole = open_dataset(written("folder", tmp_path / "data"))
    with pytest.raises(StoreError, match="does not say where its images are"):
        SourceIndex(whole.place, Objects(str(tmp_path / "store")), "a").load(whole.ids, 8)
