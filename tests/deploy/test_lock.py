"""The locks: every package is pinned with the hashes of its files, and they are what pyproject.toml asks for."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """A program of deploy/, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", ROOT / f"deploy/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock, install = script("lock"), script("install")
PINNED = lock.read(lock.LOCK.read_text())
CUDA = lock.read(lock.CUDA.read_text())


def test_all_that_the_project_asks_for_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    asked = [*project["project"]["dependencies"], *extras["s3"], *extras["dev"], *project["build-system"]["requires"]]
    asked += [*extras["docs"], *extras["judges"], *extras["faces"], *extras["training"], *extras["heif"]]
    for requirement in map(Requirement, asked):
        entry = PINNED.get(lock.normal(requirement.name))
        assert entry is not None, f"{requirement} is not in the lock: run `make lock`"
        assert entry.version in requirement.specifier, f"{requirement}, but {entry.version} is pinned: run `make lock`"


@pytest.mark.parametrize("file", [lock.LOCK, lock.CUDA], ids=lambda file: file.name)
def test_every_package_has_hashes_and_the_file_is_as_it_is_written(file: Path) -> None:
    found = lock.read(file.read_text())
    assert all(entry.hashes for entry in found.values())
    assert all(Marker(entry.marker) for entry in found.values() if entry.marker)
    body = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("#"))
    assert body == "".join(str(found[name]) for name in sorted(found))


def test_the_two_kinds_of_torch_share_a_version_and_no_file() -> None:
    assert PINNED["torch"].version == CUDA["torch"].version
    assert not PINNED["torch"].hashes & CUDA["torch"].hashes
    assert PINNED.keys() & CUDA.keys() == {"torch"}


def test_what_torch_alone_needs_on_linux_alone_is_beside_it() -> None:
    linux = "sys_platform == 'linux'"
    entries = {
        "torch": lock.Entry("torch", "1"),
        "cuda": lock.Entry("cuda", "1", linux, needed_by={"torch"}),
        "part": lock.Entry("part", "1", linux, needed_by={"cuda"}),
        "shared": lock.Entry("shared", "1", linux, needed_by={"torch", "ray"}),
        "sympy": lock.Entry("sympy", "1", needed_by={"torch"}),
    }
    assert lock.beside_torch(entries) == {"cuda", "part"}


@pytest.mark.parametrize(
    ("marker", "simple"),
    [
        ("python_full_version < '3.14' and (sys_platform == 'darwin' or sys_platform == 'linux')", ""),
        (
            "python_full_version < '3.13' and (sys_platform == 'darwin' or sys_platform == 'linux')",
            "python_full_version < '3.13'",
        ),
        ("python_full_version < '3.14' and sys_platform == 'linux'", "sys_platform == 'linux'"),
    ],
)
def test_markers_that_are_always_true_are_left_out(marker: str, simple: str) -> None:
    assert lock.simpler(marker) == simple


def test_what_uv_writes_is_read() -> None:
    text = (
        "a-b[c]==1.0 ; python_full_version < '3.14' \\\n"
        f"    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n    # via\n    #   -c pins.txt\n    #   ray\n"
        "    #   ganinv (pyproject.toml)\n"
    )
    (entry,) = lock.read(text).values()
    assert (entry.name, entry.version, entry.marker) == ("a-b", "1.0", "")
    assert entry.hashes == {"0" * 64, "1" * 64}
    assert entry.needed_by == {"ray", "ganinv"}


@pytest.mark.parametrize("lock", [PINNED, CUDA], ids=["cpu", "public"])
def test_the_lock_of_the_torch_that_is_here_is_taken(lock: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself is not run: what it would be told is read."""
    told: list[str] = []
    monkeypatch.setattr(install, "torch_here", lambda: ("file:///torch.whl", next(iter(lock["torch"].hashes))))
    monkeypatch.setattr(install, "install", lambda packages, more: told.extend(packages) or 0)
    monkeypatch.setattr(sys, "argv", ["install.py", "--dry-run"])
    assert install.main() == 0
    names = [package.partition("==")[0] for package in told]
    assert len(names) == len(set(names))
    assert set(names) == set(PINNED) | (set(CUDA) if lock is CUDA else set())
    (torch,) = [package for package in told if package.startswith("torch==")]
    assert set(re.findall(r"sha256:(\w{64})", torch)) == lock["torch"].hashes


@pytest.mark.seconds
def test_several_pips_install_what_they_are_given_and_check_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ones, of wheels made here; one is other than its hash says."""
    monkeypatch.setattr(install, "TOGETHER", 2)
    packages = [wheel(tmp_path, f"made-{number}") for number in range(3)]
    more = ["--no-index", "--find-links", str(tmp_path)]
    assert install.install(packages, [*more, "--target", str(tmp_path / "whole")]) == 0
    assert {file.name for file in (tmp_path / "whole").glob("*.py")} == {f"made_{n}.py" for n in range(3)}
    wheel(tmp_path, "made-2", "# another")
    assert install.install(packages, [*more, "--target", str(tmp_path / "other")]) != 0
    assert not (tmp_path / "other/made_2.py").exists()


def wheel(folder: Path, name: str, text: str = "") -> str:
    """A package with one module, as a file in the folder; its lines in a lock."""
    module = name.replace("-", "_")
    file = folder / f"{module}-1.0-py3-none-any.whl"
    about = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as written:
        written.writestr(f"{module}.py", text)
        written.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        written.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        written.writestr(f"{about}/RECORD", "")
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def test_a_torch_of_unknown_origin_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "torch_here", lambda: ("file:///torch.whl", "f" * 64))
    assert install.main() == 1
    said = capsys.readouterr().err
    assert "file:///torch.whl has the sha256 ffff" in said
    assert "make lock WHEEL=" in said
