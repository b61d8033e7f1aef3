"""The day with a GPU: its order, its limits, and that what fails costs a line. The measurements run at tiny sizes, slowly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_day.__main__ import day
from benchmarks.gpu_day.bench import published_shape
from benchmarks.gpu_day.generator import activations
from benchmarks.gpu_day.items import DRY, ITEMS, Item
from benchmarks.gpu_day.methods import extended
from ganinv.generators.stylegan2 import Generator
from ganinv.transfer import Sender

ROOT = Path(__file__).parents[1]


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-S", "-c", "import sys; sys.stdin.readline()\n" + program, *arguments]


def test_limits_add_up_to_ten_minutes_and_names_are_each_once() -> None:
    assert sum(item.seconds for item in ITEMS) <= 600
    assert len({item.name for item in ITEMS}) == len(ITEMS)


def test_a_dry_run_leaves_no_function_mode_or_size_out() -> None:
    by_name = {item.name: item for item in DRY}
    for item in ITEMS:
        same = by_name[item.same_code_as or item.name]
        assert same.run == item.run
        if item.settings.get("mode") != "step":  # compiled in tests/tasks/test_compiling.py
            assert same.settings.get("mode") == item.settings.get("mode")
    for key in ("size", "precision"):  # TF32 is float32 on a processor
        assert {i.settings.get(key) for i in ITEMS} - {i.settings.get(key) for i in DRY} <= {"tf32"}


@pytest.mark.seconds
def test_an_item_that_fails_hangs_or_dies_costs_a_line(tmp_path: Path) -> None:
    line = "open(sys.argv[1], 'a').write('{\"images_s\": 3}\\n')\n"
    programs = {
        "good": line,
        "fails": line + "raise ValueError('no such kernel')",
        "hangs": line + "import time, subprocess; subprocess.Popen(['sleep', '60']); time.sleep(60)",
        "dies": "import os; os.abort()",
        "last": line,
    }
    items = [Item(name, "machine:measure", 2.0) for name in programs]
    to = tmp_path / "day.json"
    results = day(items, lambda item, lines: python(programs[item.name], str(lines)), 60, to)
    assert [r["ended"] for r in results] == ["well", "badly", "late", "badly", "well"]
    assert [len(r["lines"]) for r in results] == [1, 1, 1, 0, 1]
    assert results[1]["error"] == "ValueError: no such kernel"
    assert results[2]["error"] == "not done within 2 s"
    assert json.loads(to.read_text())["items"] == results


@pytest.mark.seconds
def test_the_whole_ends_in_time_and_says_what_it_left_out(tmp_path: Path) -> None:
    items = [Item(name, "machine:measure", 60.0) for name in ("first", "second")]
    started = time.monotonic()
    results = day(items, lambda item, lines: python("import time; time.sleep(60)"), 3.5, tmp_path / "day.json")
    assert time.monotonic() - started < 30
    assert [r["ended"] for r in results] == ["late", "left out"]


def test_features_of_the_published_generator_are_counted() -> None:
    """65.7 million elements at 1024 pixels, 15.4 million at 256 (counted by hand)."""
    with torch.device("meta"):
        large, small = Generator(published_shape(1024)), Generator(published_shape(256))
    assert activations(large)[0] == pytest.approx(65.7e6, rel=0.01)
    assert activations(small)[0] == pytest.approx(15.4e6, rel=0.01)


def test_a_few_steps_say_what_all_of_them_take() -> None:
    assert extended([3, 6], [1.3, 1.6], 100) == pytest.approx(1.0 + 0.1 * 100)
    assert extended([3, 6], [1.3, 1.2], 100) == pytest.approx(1.2)  # noise does not make steps negative
    assert extended([1], [0.5], None) == 0.5


def test_without_a_gpu_a_tensor_arrives_as_it_is() -> None:
    given = torch.arange(3.0)
    sent = Sender("cpu").send(given)
    assert sent.arrived() is given


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_dry_run_of_all_items(tmp_path: Path, shared: Path) -> None:
    to = tmp_path / "day.json"
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--tiny", "--to", str(to), "--shared", str(shared)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "2"}, check=True, capture_output=True)
    results = json.loads(to.read_text())["items"]
    assert [(r["item"], r["ended"]) for r in results] == [(item.name, "well") for item in DRY]
    lines = {r["item"]: r["lines"] for r in results}
    failed = [(name, line) for name, found in lines.items() for line in found if "failed" in line]
    assert not failed
    assert all(line["ok"] for name, found in lines.items() if name.startswith("parity") for line in found)
    assert all(line["images_s"] > 0 for name in ("generator-1024", "methods-64") for line in lines[name])
    assert not [line for line in lines["steps-64-graph"] if "given_up" in line]
