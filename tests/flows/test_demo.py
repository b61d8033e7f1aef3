"""What the demo does with a data set: photos are aligned, crops of faces are taken as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows import demo
from flows.chain import ChainJob
from tasks.engine import Engine
from tests.data.pictures import noise


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[ChainJob]:
    """Chains that the demo would run."""
    found: list[ChainJob] = []

    def instead(job: ChainJob) -> Mapping[str, Any]:
        found.append(job)
        return {}

    monkeypatch.setattr(demo, "chain", instead)
    return found


def test_photos_that_are_not_square_are_aligned_first(tmp_path: Path, jobs: list[ChainJob]) -> None:
    (tmp_path / "photos").mkdir()
    noise(60, 40).save(tmp_path / "photos/a.png")
    demo.run_demo(str(tmp_path / "store"), {"url": str(tmp_path / "photos"), "limit": 3}, Engine())
    (job,) = jobs
    assert job.align is not None
    assert job.align.dataset.url == str(tmp_path / "photos")
    assert job.align.dataset.limit == 3
    assert {each.dataset.url for each in job.invert} == {str(tmp_path / "store/aligned/faces")}
    assert [each.edits for each in job.paste] == ["retouched"]


@pytest.mark.seconds
def test_crops_of_faces_are_taken_as_they_are(tmp_path: Path, jobs: list[ChainJob], demo_pictures: Path) -> None:
    (tmp_path / "crops").mkdir()
    for path in sorted(demo_pictures.glob("portrait-*.png")):
        Image.open(path).save(tmp_path / "crops" / path.name)
    demo.run_demo(str(tmp_path / "store"), {"url": str(tmp_path / "crops")}, Engine())
    (job,) = jobs
    assert job.align is None
    assert job.paste == ()
    assert job.report is not None
    assert job.report.pasted is None
    assert {each.dataset.url for each in job.invert} == {str(tmp_path / "crops")}


@pytest.mark.seconds
def test_the_built_in_photos_and_small_faces(
    tmp_path: Path, jobs: list[ChainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    demo.run_demo(str(tmp_path / "store"), {"limit": 12}, Engine())
    monkeypatch.setitem(sys.modules, "dlib", None)  # as Python marks a module that cannot be imported
    demo.run_demo(str(tmp_path / "store"), {"limit": 12}, Engine())
    found, without = jobs
    assert found.align is not None
    assert without.align is not None
    assert (found.align.detector.kind, without.align.detector.kind) == ("dlib", "landmarks")
    small = [each for each in found.invert if each.collection_name.startswith("small-")]
    assert {each.method for each in small} >= {"e4e", "sfe-refined"}
    assert found.report is not None
    assert found.report.others == tuple(each.collection_name for each in small)
    assert found.report.pasted == "retouched"
