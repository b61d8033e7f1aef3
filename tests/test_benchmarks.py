"""The benchmarks that wait for a GPU run here at a tiny size, so that they are ready when there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def benchmark(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_floor(tmp_path: Path) -> None:
    lines = tmp_path / "floor.jsonl"
    jobs = ["e4e", "hyperstyle", "projection", "pti-dense", "pti-low-rank"]
    benchmark("generator.floor", "--generator", "config-f-32", "--batches", "1", "--steps", "1", "--rounds", "1",
              "--precisions", "float32", "--json", str(lines))  # fmt: skip
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["job"] for line in found] == jobs
    counted = {line["job"]: line["tflop"] for line in found}
    # compute-budget.md, section 2: 0.145 TFLOP for the encoder with 18 rows, here it has 8; 0.0665 for the hypernetwork of
    # 1024 pixels, five times, beside 0.066 for the encoder into W.
    assert 0.07 < counted["e4e"] < 0.1
    assert 0.35 < counted["hyperstyle"] < 0.45
    # A tuned generator has gradients to its weights as well, a frozen one to its features alone: 3 to 2, beside the distance.
    assert 1.2 < (counted["pti-dense"] / 350) / (counted["projection"] / 500) < 1.5
    assert all(line["seconds"] > 0 for line in found)


@pytest.mark.slow
def test_pareto(tmp_path: Path, shared: Path) -> None:
    results = ["--results", str(tmp_path / "lines.jsonl")]
    few = ["--images", "2", "--samples", "600", "--only", "w20, rank 4 muon x 20"]
    first = benchmark("inversion.pareto", "run", *few, *results)
    assert "mse" in first
    again = benchmark("inversion.pareto", "run", *few, *results)
    assert again == ""
    benchmark("inversion.pareto", "draw", *results, "--to", str(tmp_path))
    assert "w20, rank 4 muon x 20" in (tmp_path / "pareto.md").read_text()
    assert (tmp_path / "pareto.svg").stat().st_size > 5000


@pytest.mark.slow
def test_fidelity(tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "lines.jsonl")]
    benchmark("inversion.fidelity", "run", "--samples", "--images", "4", "--only", "e4e", "hfgi", *results)
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert lines[0]["method"] == "e4e"
    assert 0.5 < lines[0]["edits"] < 1.2
    assert "| e4e |" in benchmark("inversion.fidelity", "table", *results)
