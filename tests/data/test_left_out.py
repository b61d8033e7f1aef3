"""What a data set has besides its images: counted and said, and no image among it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganinv.data import decode_image, kinds, open_dataset
from ganinv.data.decode import heif_is_there
from ganinv.errors import DataError

from .conftest import Folder, opened
from .pictures import encoded, noise, tar_of


def test_images_are_told_by_their_content_where_the_suffix_says_nothing(folder: Folder) -> None:
    files = {
        "two.jfif": encoded(noise(), "JPEG"),
        "three.jpe": encoded(noise(seed=1), "JPEG"),
        "0a1b2c3d4e": encoded(noise(seed=2)),
        "photo.v2": encoded(noise(seed=3), "WEBP"),
        "five.avif": encoded(noise(seed=4), "AVIF"),
        "six.jp2": encoded(noise(seed=5), "JPEG2000"),
    }
    for name, data in files.items():
        folder.put(name, data)
    for name, data in {
        "notes.txt": b"no",
        "LICENSE": b"Apache",
        "data.bin": bytes(99),
        ".DS_Store": b"x",
        "e": b"",
    }.items():
        folder.put(name, data)
    folder.put("video.mp4", encoded(noise()))  # a suffix that says what it is is believed
    dataset = opened(folder)
    assert dataset.ids == ["0a1b2c3d4e", "five", "photo.v2", "six", "three", "two"]
    batch = dataset.load(dataset.ids, 16)
    assert (batch.ids, batch.errors) == (dataset.ids, [])
    assert dataset.left_out.as_dict() == {
        "their names begin with a dot": {"hidden files": 1},
        "no images by their names or first bytes": {".txt": 1, "without a suffix": 1, ".bin": 1, ".mp4": 1},
        "they are empty": {"without a suffix": 1},
    }
    assert dataset.left_out.line().startswith("left out 6 that are not images of this run: ")


def test_names_with_line_breaks_are_told_in_one_line(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    for name in ("new\nline.txt", "b.new\nline"):
        (tmp_path / name).write_text("no")
    left = open_dataset(str(tmp_path)).left_out
    assert left.as_dict() == {"no images by their names or first bytes": {".new\nline": 1, ".txt": 1}}
    assert len(left.line().splitlines()) == 1


def test_all_that_pillow_decodes_is_listed() -> None:
    Image.init()
    mine = {*kinds.FORMATS, *kinds.BY_SUFFIX, "MPO"}
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in mine and name in Image.OPEN}
    assert suffixes <= set(kinds.IMAGE_SUFFIXES)
    obscure = {"BUFR", "EPS", "GRIB", "HDF5", "IMT", "MCIDAS", "MPEG", "SPIDER", "WMF", "HEIF"}
    assert set(Image.OPEN) - mine <= obscure


def test_images_that_cannot_be_decoded_are_rows_with_a_reason(tmp_path: Path) -> None:
    raw = encoded(noise(8, 8), "TIFF")  # a camera's raw file shows its thumbnail to a program that reads it as TIFF
    for name in ("a.NEF", "b.dng", "c.jxl", "d.exr", "e.svg", "f.eps"):
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "g.png").write_bytes(encoded(noise()))
    dataset = open_dataset(str(tmp_path))
    batch = dataset.load(dataset.ids, 16)
    assert batch.ids == ["g"]
    assert {error.code for error in batch.errors} == {"unsupported"}
    assert "export it as PNG or JPEG" in batch.errors[0].message
    assert len(dataset.left_out) == 0


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif")
    sink = io.BytesIO()
    heif.from_pillow(noise(64, 48).resize((128, 96))).save(sink, quality=90)
    (tmp_path / "IMG_0007.HEIC").write_bytes(sink.getvalue())
    (tmp_path / "cut.heic").write_bytes(sink.getvalue()[:400])
    (tmp_path / "no-suffix").write_bytes(sink.getvalue())
    dataset = open_dataset(str(tmp_path))
    assert dataset.ids == ["IMG_0007", "cut", "no-suffix"]
    batch = dataset.load(dataset.ids, 16)
    assert batch.ids == ["IMG_0007", "no-suffix"]
    assert [error.code for error in batch.errors] == ["truncated"]
    monkeypatch.setattr("ganinv.data.decode.heif_is_there", lambda: False)
    without = dataset.load(["IMG_0007"], 16)
    assert [error.code for error in without.errors] == ["unsupported"]
    assert "ganinv[heif]" in without.errors[0].message
    assert heif_is_there()


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    for place in ("set/real", "elsewhere/deep"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x.png").write_bytes(encoded(noise()))
    (tmp_path / "elsewhere/deep/up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/again").symlink_to(tmp_path / "set/real")
    (tmp_path / "set/loop").symlink_to(tmp_path)
    dataset = open_dataset(f"{tmp_path}/set")
    assert dataset.ids == ["more/deep/x", "real/x"]
    assert dataset.load(dataset.ids, 8).ids == dataset.ids
    assert dataset.left_out.as_dict() == {
        "they lead back to a folder above themselves": {"linked folders": 2},
        "what they lead to is read already": {"linked folders": 1},
    }


def test_a_glob_says_which_folders_it_does_not_enter(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).write_bytes(encoded(noise()))
    dataset = open_dataset(f"{tmp_path}/*")
    assert dataset.ids == ["a"]
    assert "1 folders (a glob takes files: end it with /**" in dataset.left_out.line()
    assert open_dataset(f"{tmp_path}/**").ids == ["a", "sub/b"]


def test_a_shard_that_cannot_be_read_is_an_error_row_and_the_rest_goes_on(folder: Folder) -> None:
    pictures = {f"{k}.png": encoded(noise(seed=k)) for k in range(4)}
    whole = tar_of(pictures)
    header = whole.index(b"2.png")
    damaged = whole[:header] + b"\xff" * 200 + whole[header + 200 :]
    files = {
        "a.tar": tar_of({"x.png": encoded(noise(seed=9))}),
        "b.tar": whole[: header + 1000],  # within the third picture
        "c.tar": b"",
        "d.tar": whole[:header],  # right behind the second
        "e.tar": damaged,
        "f.tar": b"\x1f\x8b" + bytes(600),
        "g.tar": whole + whole,
        "h.tar": tar_of({"readme.md": b"x"}),
    }
    for name, data in files.items():
        folder.put(name, data)
    dataset = opened(folder)
    good = ["a/x", "b/0", "b/1", "d/0", "d/1", "e/0", "e/1", "g/0", "g/1", "g/2", "g/3"]
    batch = dataset.load(dataset.ids, 16)
    assert batch.ids == good
    faults = {error.image_id: error for error in batch.errors}
    assert sorted(faults) == ["b.tar", "c.tar", "d.tar", "e.tar", "f.tar", "g.tar"]
    assert {error.code for error in batch.errors} == {"shard"}
    words = {
        "b": "ends within 2.png",
        "c": "no bytes",
        "d": "end mark",
        "e": "damaged at byte",
        "g": "after its end mark",
    }
    for name, word in words.items():
        assert word in faults[f"{name}.tar"].message
    assert ".tar (no image is in them" in dataset.left_out.line()


def test_parquet_shards_that_cannot_be_read(folder: Folder) -> None:
    def table(numbers: range, **more: Any) -> bytes:
        sink = io.BytesIO()
        columns = {"image": [encoded(noise(seed=k)) for k in numbers], **more}
        pq.write_table(pa.table(columns), sink, row_group_size=2, compression="zstd")
        return sink.getvalue()

    whole = table(range(4))
    middle = len(whole) // 4
    other = io.BytesIO()
    pq.write_table(pa.table({"text": ["no image"]}), other)
    files = {
        "a.parquet": table(range(5, 7)),
        "b.parquet": whole[:-50],
        "c.parquet": b"",
        "d.parquet": whole[:middle] + bytes(400) + whole[middle + 400 :],
        "e.parquet": other.getvalue(),
    }
    for name, data in files.items():
        folder.put(name, data)
    dataset = opened(folder)
    batch = dataset.load(dataset.ids, 16)
    assert {"a/00000000", "a/00000001", "d/00000002", "d/00000003"} <= set(batch.ids)
    assert {error.code for error in batch.errors} == {"shard"}
    assert {"b.parquet", "c.parquet", "e.parquet"} <= {error.image_id for error in batch.errors}
    assert len(batch.ids) + len(batch.errors) == 2 + 4 + 3
    with pytest.raises(DataError, match=r"no image can be read at .*b\.parquet"):
        opened(folder, "/[bc].parquet")


def test_layouts_of_webdataset_and_img2dataset(folder: Folder) -> None:
    for part in ("train", "val"):
        members = {"000000.jpg": encoded(noise(seed=len(part)), "JPEG"), "000000.json": b"{}", "000000.txt": b"a face"}
        folder.put(f"{part}/00000.tar", tar_of(members))
        sink = io.BytesIO()
        pq.write_table(pa.table({"url": ["https://x.org/a.jpg"], "caption": ["a face"], "sha256": ["0"]}), sink)
        folder.put(f"{part}/00000.parquet", sink.getvalue())
        folder.put(f"{part}/00000_stats.json", b"{}")
    dataset = opened(folder)
    assert dataset.ids == ["train/00000/000000", "val/00000/000000"]
    assert dataset.load(dataset.ids, 16).errors == []
    left = dataset.left_out.as_dict()
    assert left["no images by their names or first bytes"] == {".json": 4, ".txt": 2}
    assert left["tables without images, beside the images"] == {".parquet": 2}


def test_a_link_in_a_shard_is_the_image_that_it_leads_to(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        data = encoded(noise())
        for name, kind, target in (
            ("d/a.png", tarfile.REGTYPE, ""),
            ("b.png", tarfile.LNKTYPE, "d/a.png"),
            ("d/c.png", tarfile.SYMTYPE, "a.png"),
            ("e.png", tarfile.SYMTYPE, "/etc/passwd"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    dataset = open_dataset(str(tmp_path))
    assert dataset.ids == ["s/b", "s/d/a", "s/d/c"]
    assert len(set(dataset.load(dataset.ids, 8).sha256)) == 1
    assert "links and devices" in dataset.left_out.line()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Ids and URIs of them are text that every table holds, and the image is found again by what an index noted."""
    from ganinv.data.index import SourceIndex, write_index
    from ganinv.store.objects import Objects

    try:
        Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/M\xfcller.jpg")).write_bytes(encoded(noise(), "JPEG"))
    except OSError:
        pytest.skip("this file system takes text only")
    (tmp_path / "M\\xfcller.jpg").write_bytes(encoded(noise(seed=1), "JPEG"))
    with tarfile.open(tmp_path / "x.tgz", "w"):
        pass
    dataset = open_dataset(str(tmp_path))
    assert dataset.ids == ["M\\xfcller.jpg", "M\\xfcller.jpg~2"]
    objects = Objects(str(tmp_path / "store"))
    write_index(dataset, objects, "a", dataset.ids)
    found = SourceIndex(dataset.place, objects, "a").dataset(dataset.ids)
    assert dict(found.sources) == dict(dataset.sources)
    assert sorted(found.load(found.ids, 8).sha256) == sorted(dataset.load(dataset.ids, 8).sha256)
    assert len(set(found.load(found.ids, 8).sha256)) == 2
    uris = {source.uri for source in dataset.sources.values()}
    assert any(uri.startswith("file://") and uri.endswith("M%FCller.jpg") for uri in uris)
    assert all(uri.encode() for uri in uris)


def test_tga_is_told_by_its_suffix_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tga").write_bytes(encoded(noise(), "TGA"))
    batch = open_dataset(str(tmp_path)).load(["a"], 16)
    assert batch.ids == ["a"]
    with pytest.raises(DataError):
        decode_image(encoded(noise(), "TGA"))
