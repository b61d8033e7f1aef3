"""The workflow and the hooks that others see say what is there: versions, targets of make, programs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
RUN = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]


def test_every_python_that_the_package_names_is_tried() -> None:
    named = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert set(JOBS["locked"]["strategy"]["matrix"]["python"]) == named
    assert PROJECT["requires-python"] == f">={min(named, key=lambda v: int(v.split('.')[1]))}"
    assert "macos" in " ".join(JOBS["locked"]["strategy"]["matrix"]["os"])


def test_the_oldest_torch_is_tried() -> None:
    oldest = {r.name: str(r.specifier).removeprefix(">=") for r in map(Requirement, PROJECT["dependencies"])}
    (install,) = (text for text in RUN if "torch==" in text)
    assert f'"torch=={oldest["torch"]}.*"' in install
    assert f'"torchvision=={oldest["torchvision"]}.*"' in install


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = {target for text in RUN for target in re.findall(r"\bmake (\w+)", text)}
    assert named >= {"lint", "docs", "setup", "test", "slow", "quick", "dist"}
    assert named <= targets


@pytest.mark.parametrize("hook", yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"])
def test_hooks_run_what_the_lock_has(hook: dict[str, Any]) -> None:
    program, *words = hook["entry"].split()
    locked = (ROOT / "requirements.lock").read_text()
    package = {"lint-imports": "import-linter", "python": "pytest"}.get(Path(program).name, Path(program).name)
    assert program.startswith(".venv/bin/")
    assert re.search(rf"^{package}==", locked, re.M)
    for word in words:
        if word.endswith(".py"):
            assert (ROOT / word).exists()
