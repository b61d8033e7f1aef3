"""A run that did not begin leaves nothing; one that came to its end says why images failed, also by its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ganinv.errors import ConfigError
from ganinv.generators.files import EMBEDDED, open_generator, save_generator
from ganinv.store import open_store
from tasks.outcome import is_too_much
from tests.flows.conftest import Run


def invert(store: Path, dataset: Path, *more: object) -> tuple[object, ...]:
    return ("invert", f"--store={store}", f"--dataset={dataset}", "--method=e4e", "--engine=inline", *more)


@pytest.fixture
def mixed(tmp_path: Path, faces: Path) -> Path:
    """Two faces, two cut files and an empty one."""
    folder = tmp_path / "mixed"
    shutil.copytree(faces, folder)
    for path in sorted(folder.iterdir())[2:]:
        path.write_bytes(path.read_bytes()[:300])
    (folder / "zero.png").write_bytes(b"")
    return folder


@pytest.fixture
def bad(mixed: Path) -> Path:
    for path in sorted(mixed.iterdir())[:2]:
        path.unlink()
    return mixed


@pytest.mark.seconds
def test_all_failed_is_exit_code_three_and_the_reasons_are_the_last_lines(run: Run, tmp_path: Path, bad: Path) -> None:
    (bad / "about.txt").write_text("two faces")
    code, _, err = run(*invert(tmp_path / "store", bad))
    assert code == 3
    summary = (tmp_path / "store" / "latents" / "e4e" / "_summary.md").read_text()
    assert "| truncated | 2 |" in summary
    assert [line for line in summary.splitlines() if ".txt" in line] == [
        "| no images by their names or first bytes: .txt | 1 |"
    ]
    last = err.strip().splitlines()[-4:]
    assert last[0] == "latents/e4e: 3 of 3 images failed"
    assert last[1].startswith("  2 truncated, such as ")
    assert last[2].startswith("  1 empty, such as ")
    assert "--allow-failed" in last[3]
    assert run(*invert(tmp_path / "store", bad))[0] == 3  # nothing was left to do, and nothing is better
    code, out, err = run(*invert(tmp_path / "store", bad, "--allow-failed=all", "--json"))
    assert code == 0
    assert [reason["images"] for reason in json.loads(out)["failures"]["reasons"]] == [2, 1]
    assert "3 of 3 images failed" in err


@pytest.mark.seconds
def test_some_failed(run: Run, tmp_path: Path, mixed: Path) -> None:
    """The first run computes; the others find the same failures in the store."""
    for allowed, code in ((None, 0), ("0", 3), ("2", 3), ("3", 0), ("59%", 3), ("60%", 0), ("all", 0)):
        more = [] if allowed is None else [f"--allow-failed={allowed}"]
        found, _, err = run(*invert(tmp_path / "store", mixed, *more))
        assert found == code, allowed
        assert "latents/e4e: 3 of 5 images failed" in err


def test_what_may_fail_is_understood_before_the_run(run: Run, tmp_path: Path, faces: Path) -> None:
    code, _, err = run(*invert(tmp_path / "store", faces, "--allow-failed=few"))
    assert code == 2
    assert "5%" in err
    assert not (tmp_path / "store").exists()
    with pytest.raises(ConfigError, match="a share"):
        is_too_much({}, "few")


def test_a_shard_that_nobody_could_read_is_too_much_by_itself() -> None:
    """Nobody knows how many images it holds."""
    failed = {"images": 100, "reasons": [{"code": "shard", "images": 1, "message": "cut"}]}
    result = {"collection": "latents/a", "rows": 99, "failed": 1, "failures": failed}
    assert is_too_much(result, None)
    assert not is_too_much(result, "1")
    assert is_too_much({"invert": result, "report": {"bytes": 3}}, None)


REFUSED = {
    "no weights": ("--method=w-projection-paper",),
    "no method": ("--method=e5e",),
    "no encoder": ("--encoder=e4e=nowhere",),
    "no generator": ("--generator=nowhere.pkl",),
    "no data set": ("--dataset=nowhere",),
    "a site that is not there": ("--method=sites.yaml",),
    "a method without a start": ("--method=start.yaml",),
}


@pytest.mark.seconds
def test_a_refused_run_leaves_its_name_free(
    run: Run, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    head = "name: odd\nsummary: odd\nspace: w\nstages:\n  - {kind: optimize, space: w, steps: 1, start: "
    Path("sites.yaml").write_text(head + "mean, features: [{site: 'act[40]'}]}\n")
    Path("start.yaml").write_text(head + "code}\n")
    store = tmp_path / "store"
    for case, more in REFUSED.items():
        assert run(*invert(store, faces, "--name=one", *more))[0] == 1, case
        assert not (store / "latents/one").exists(), case
    assert run(*invert(store, faces, "--name=one"))[0] == 0


@pytest.mark.seconds
def test_a_run_whose_worker_cannot_be_built_leaves_its_name_free(
    run: Run, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a worker finds out, such as a file that is not on its machine."""
    from tasks.steps import invert as step

    whole = step.InvertWorker.__init__

    def broken(self: Any, *arguments: Any, **more: Any) -> None:
        raise ConfigError("no such file on this machine")

    monkeypatch.setattr(step.InvertWorker, "__init__", broken)
    code, _, err = run(*invert(tmp_path / "store", faces))
    assert code == 1
    assert "no such file on this machine" in err
    assert open_store(str(tmp_path / "store")).list("latents") == []
    monkeypatch.setattr(step.InvertWorker, "__init__", whole)
    assert run(*invert(tmp_path / "store", faces, "--seed=3"))[0] == 0
    monkeypatch.setattr(step.InvertWorker, "__init__", broken)
    (faces_more := tmp_path / "more").mkdir()
    for path in faces.iterdir():
        shutil.copy(path, faces_more / f"more-{path.name}")
    assert run(*invert(tmp_path / "store", faces_more, "--seed=3"))[0] == 1
    assert open_store(str(tmp_path / "store")).latents["e4e"].read().num_rows == 4  # what was computed stays


@pytest.mark.seconds
def test_other_steps_open_everything_first(
    run: Run, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    store = tmp_path / "store"
    assert run(*invert(store, faces))[0] == 0
    common = (f"--store={store}", "--engine=inline")
    for refused, kind in (
        (("evaluate", "--latents=e4e", "--distance=lpips-alex"), "metrics"),
        (("evaluate", "--latents=e4e", "--generator=nowhere.pt"), "metrics"),
        (("edit", "--latents=e4e", "--edit=nothing=1"), "edits"),
        (("sample", "--labeller=nowhere"), "samples"),
        (("train", "portraits-64-e4e", "--dataset=nowhere", "--steps=2"), "training"),
        (("compress", "pti", "--to=small"), "latents/small"),
    ):
        assert run(*refused, *common)[0] == 1, refused
        assert not (store / kind).exists(), refused
    for part in ("--latents=nothing", "--edits=nothing", "--samples=nothing"):
        code, _, err = run("report", f"--store={store}", part)
        assert code == 1
        assert "named 'nothing'" in err
    assert not (store / "reports").exists()
    g = open_generator(EMBEDDED)
    g.discriminator = None
    save_generator(g, str(tmp_path / "bare"))
    bare = ("evaluate", "--latents=e4e", f"--generator={tmp_path}/bare", *common)
    assert run(*bare)[0] == 0
