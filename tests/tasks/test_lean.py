"""What the processes of a run do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("pandas", "sympy", "scipy", "sklearn", "matplotlib", "torchvision", "torch._dynamo", "ray", "prefect")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.seconds
def test_arrow_works_without_pandas_and_with_it_when_it_is_wanted() -> None:
    pytest.importorskip("pandas")
    said = python(
        "import sys; from tasks.pool.lean import without_pandas; without_pandas(); import pyarrow as pa\n"
        "t = pa.table({'a': [1, 2]})\n"
        "print('pandas' in sys.modules, t.to_pandas().a.sum(), 'pandas' in sys.modules, pa.array(t.to_pandas().a).to_pylist())"
    )
    assert said == "False 3 True [1, 2]"


@pytest.mark.seconds
def test_an_inversion_in_one_process_imports_nothing_heavy_but_torch(faces: Path, tmp_path: Path) -> None:
    """Each of these takes a tenth of a second to a second, before the first image."""
    words = [
        "invert",
        "--engine",
        "inline",
        "--dataset",
        str(faces),
        "--store",
        str(tmp_path / "store"),
        "--method",
        "e4e",
    ]
    said = python(
        f"import sys; sys.argv = ['ganinv', *{[*words, '--limit', '4']!r}]; import flows.cli, tasks.framing\n"
        "tasks.framing._detector_installed = lambda: False\n"  # what comes after the first image may import more
        "try: flows.cli.main()\n"
        f"finally: print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert said.rpartition("LOADED ")[2] == "[]"
