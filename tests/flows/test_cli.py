"""The command line: help is light, errors are one sentence, results can be JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the command line in this process: (exit code, output, errors)."""
    monkeypatch.setattr(sys, "argv", ["ganinv", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_help_needs_neither_torch_nor_ray() -> None:
    code = "import sys; import flows.cli; print([m for m in ('torch', 'ray', 'prefect') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    ["demo", "run", "sample", "fit", "train", "invert", "edit", "evaluate", "report", "directions", "latents"],
)
def test_every_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = run_here(monkeypatch, capsys, command, "--help")
    assert code == 0
    assert "Usage" in out


def test_an_error_is_one_sentence_and_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["invert", f"--store={tmp_path}/s", f"--dataset={tmp_path}/none", "--engine=inline"]
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 1
    assert "ganinv:" in err
    assert "none" in err
    assert "Traceback" not in err


def test_an_empty_list_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run_here(monkeypatch, capsys, "latents", "list", f"--store={tmp_path}")
    assert (code, out) == (0, "")
    assert f"in {tmp_path} yet: ganinv " in err


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("sample", "--store=s", "--count=0"), "--count"),
        (("sample", "--store=s", "--count=100000000000"), "--count"),
        (("invert", "--store=s", "--dataset=d", "--limit=0"), "--limit"),
        (("invert", "--store=s", "--dataset="), "--dataset"),
        (("fill", "", "--store=s", "--masks=alpha"), "DATASET"),
        (("invert", "--store=s", "--dataset=d", "--slots=0"), "--slots"),
    ],
)
def test_a_wrong_value_is_told_by_its_flag(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    flag: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 1
    assert err.startswith(f"ganinv: command line: {flag}: ")
    assert "Value error" not in err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("inspect", "portraits-64", f"--grid={tmp_path}/file/grid.png")
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 1
    assert "there is a file where a folder is needed" in err
    code, _, err = run_here(monkeypatch, capsys, "inspect", "portraits-64", f"--grid={tmp_path}")
    assert code == 1
    assert "there is a folder where a file is needed" in err


@pytest.mark.parametrize("out", [("--out", ""), ("--out=",), ("--out", " ")])
def test_an_empty_text_is_no_folder_to_write_into(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, out: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run_here(monkeypatch, capsys, "render", "pti", "--store=s", *out)
    assert code == 1
    assert "--out is an empty text" in err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.cli.latents.print_table", interrupted)
    code, _, err = run_here(monkeypatch, capsys, "latents", "list", f"--store={tmp_path}")
    assert code == 130
    assert (
        err.strip().splitlines()[-1] == "ganinv: stopped. What is done is kept: run the same command again to continue"
    )


def test_wrong_edit_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run_here(
        monkeypatch, capsys, "edit", f"--store={tmp_path}", "--latents=x", "--edit=smile=much", "--engine=inline"
    )
    assert code == 1
    assert "expected a number after = in 'smile=much'" in err


def test_json_of_an_empty_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run_here(monkeypatch, capsys, "latents", "list", f"--store={tmp_path}", "--json")
    assert code == 0
    assert json.loads(out) == []
    code, out, _ = run_here(monkeypatch, capsys, "directions", "list", f"--store={tmp_path}", "--json")
    assert code == 0
    assert {row["version"] for row in json.loads(out)} == {0}  # those that ship with the generator


def test_boundaries_of_inverted_images_are_in_their_space_and_have_no_components_beside_them() -> None:
    from flows.cli.pipeline import _methods

    assert _methods("interfacegan", {"space": None, "components": None}, of_inversions=True) == [
        {"method": "interfacegan", "tails": 0.1, "space": "w+"},
        {"method": "ganspace", "components": 0},
    ]
    samples = _methods("interfacegan", {"space": "z", "components": 3}, of_inversions=False)
    assert [m.get("space") or m["components"] for m in samples] == ["z", 3]


@pytest.mark.seconds
def test_sample_fit_list_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = f"--store={tmp_path}/s"
    code, out, _ = run_here(monkeypatch, capsys, "sample", store, "--count=120", "--engine=inline", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 120
    code, out, _ = run_here(
        monkeypatch,
        capsys,
        "fit",
        store,
        "--tails=0.25",
        "--components=1",
        "--attributes=smile",
        "--calibration=samples=8",
        "--engine=inline",
        "--json",
    )
    assert code == 0
    assert json.loads(out)["rows"] == 2
    code, out, _ = run_here(monkeypatch, capsys, "directions", "list", store, "--json")
    assert {row["name"] for row in json.loads(out) if row["version"]} == {"smile", "pca-00"}
    code, out, _ = run_here(monkeypatch, capsys, "directions", "show", "smile", store, "--json")
    assert json.loads(out)["method"] == "interfacegan-svc"
    code, _, err = run_here(monkeypatch, capsys, "directions", "show", "smil", store)
    assert code == 1
    assert "did you mean 'smile'?" in err
