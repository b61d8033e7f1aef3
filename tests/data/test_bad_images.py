"""Every kind of bad file is one error row with its reason, whatever else is in its batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.data import open_dataset

from .bad_images import put_bad_files
from .pictures import encoded, noise


@pytest.mark.seconds
def test_thirty_one_kinds_of_bad_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    codes = put_bad_files(folder)
    assert len(codes) == 31
    for seed in range(3):
        (folder / f"good-{seed}.png").write_bytes(encoded(noise(seed=seed)))
    dataset = open_dataset(str(folder))
    batch = dataset.load(dataset.ids, 16)
    assert batch.ids == ["good-0", "good-1", "good-2"]
    found = {Path(dataset.sources[error.image_id].path).name: error.code for error in batch.errors}
    assert found == codes
    assert all(len(error.message) > 20 for error in batch.errors)


def test_links_inside_the_data_set_are_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(noise()))
    (tmp_path / "in" / "b.png").symlink_to("a.png")
    (tmp_path / "out.png").write_bytes(encoded(noise()))
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "out.png")
    for url in (f"{tmp_path}/in", f"{tmp_path}/in/*.png"):
        batch = open_dataset(url).load(["a", "b", "c"], 16)
        assert batch.ids == ["a", "b"]
        assert batch.sha256[0] == batch.sha256[1]
        assert [(error.image_id, error.code) for error in batch.errors] == [("c", "outside")]
    assert open_dataset(f"{tmp_path}/*/*.png").load(["in/a", "in/c"], 16).ids == ["in/a", "in/c"]  # named by its folder


def test_a_link_to_nothing_is_told_from_a_file_that_went(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere.png")
    (tmp_path / "b.png").write_bytes(b"x")
    dataset = open_dataset(str(tmp_path))
    (tmp_path / "b.png").unlink()
    errors = dataset.load(["a", "b"], 8).errors
    assert {error.image_id: error.message.rpartition(": ")[2] for error in errors} == {
        "a": "a link to a file that is not there",
        "b": "the file was listed and is gone now",
    }
