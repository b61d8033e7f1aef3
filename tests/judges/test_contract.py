"""No judge is ever a loss: the contract that says so finds every module that breaks it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.seconds
@pytest.mark.parametrize("broken", ["", "ganinv/losses/distance.py", "ganinv/directions/styles.py"])
def test_whatever_trains_or_fits_cannot_see_a_judge(tmp_path: Path, broken: str) -> None:
    pytest.importorskip("importlinter")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each.get("forbidden_modules") == ["ganinv.judges"]]
    shutil.copytree(
        ROOT / "ganinv", tmp_path / "ganinv", ignore=lambda _, names: [n for n in names if n.endswith("assets")]
    )
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in contract.items())
    settings = f'[tool.importlinter]\nroot_packages = ["ganinv"]\n[[tool.importlinter.contracts]]\n{lines}\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    if broken:
        with (tmp_path / broken).open("a") as file:
            file.write("\nfrom ganinv.judges.squeezenet import SqueezeNet  # noqa\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=300,
    )  # fmt: skip
    assert (done.returncode != 0) == bool(broken), done.stdout + done.stderr
    if broken:
        assert f"{broken.removesuffix('.py').replace('/', '.')} -> ganinv.judges.squeezenet" in done.stdout
