"""What is installed from a wheel or a source archive, with no checkout, does the first steps of the demo.

The package is built and installed into an environment of its own, which sees the other packages of this one, so that nothing is
downloaded.
"""

from __future__ import annotations

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.artefacts import made_once

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""

    def build(folder: Path) -> None:
        run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], ROOT)

    return made_once(tmp_path_factory, "dist", build)


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    place = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place]
    run([*install, next(built.glob("*.whl"))], folder)
    # After this one's packages; .pth files there, such as that of an editable install, are not followed.
    (place / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(command: list[str | Path], folder: Path, **more: str) -> str:
    """What a command prints; it sees no checkout."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "COV_", "GANINV"))}
    done = subprocess.run(command, cwd=folder, env={**plain, **more}, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


DEMO = """
from pathlib import Path
from flows.cli import app
from ganinv.data.demo import demo_dataset
from ganinv.store import open_store

demo_dataset(Path("inputs"))
for step in (
    "sample --store s --count 256 --engine inline",
    "fit --store s --estimator ridge --calibration samples=8 --engine inline",
    "invert --store s --dataset inputs --method e4e --limit 4 --engine inline",
    "edit --store s --latents e4e --edit smile=1 --engine inline",
    "report --store s --latents e4e --edits edits",
):
    app(step.split(), standalone_mode=False)
print(open_store("s").latents["e4e"].provenance()["code_version"])
"""


def test_the_demo_begins_without_a_checkout(python: Path, tmp_path: Path) -> None:
    where = run(
        [python, "-c", "import ganinv, flows, tasks; print(ganinv.__file__, flows.__file__, tasks.__file__)"], tmp_path
    )
    assert all(path.startswith(str(python.parents[1])) for path in where.split()), where
    version = run([python, "-c", "import importlib.metadata as m; print(m.version('ganinv'))"], tmp_path)
    said = run([python, "-c", DEMO], tmp_path, OMP_NUM_THREADS="1")
    assert said.splitlines()[-1] == version.strip(), "a row names the code that was installed"
    assert list((tmp_path / "s/reports").rglob("*.html"))


def test_the_source_archive_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """Without git, from which the version comes: so what is tried of the wheel holds for the source archive too."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")], source)
    (wheel,), (again,) = built.glob("*.whl"), (tmp_path / "dist").glob("*.whl")
    assert again.name == wheel.name
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        checksums = [{entry.filename: entry.CRC for entry in archive.infolist()} for archive in (first, second)]
    assert checksums[0] == checksums[1]


def test_what_is_in_the_archives(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(metadata))
    assert {f"{package}/py.typed" for package in ("ganinv", "tasks", "flows")} <= names
    assert "ganinv/configs/methods/pti.yaml" in names
    assert not {name for name in names if name.startswith(("tests", "docs", "benchmarks"))}
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert "GAN inversion" in str(said.get_payload())
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "requirements.lock", "docs/store.md", "configs/methods/pti.yaml", "Makefile"} <= inside
    commit = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if (ROOT / ".git").exists() and commit.returncode == 0:
        assert f"g{commit.stdout.strip()}" in said["Version"], "the version names the commit"
