"""``make lock``: ``requirements.lock`` and ``requirements-cuda.lock`` from ``pyproject.toml``, with the hashes of all files.

Versions that are pinned stay unless ``--upgrade NAME`` names them. Needs ``uv``, which reads metadata and installs nothing.

torch has two kinds of builds. Those of the public index need CUDA's libraries on Linux: their hashes and these libraries are in
``requirements-cuda.lock``. CPU builds, of another index or a folder, do without: their hashes are in ``requirements.lock``, where
``--wheel FILE`` puts them, once for each file. ``deploy/install.py`` takes the one or the other.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK, CUDA = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
EXTRAS = ("s3", "dev")
PYTHON = "3.11.5"  # the oldest that every package takes
HEAD = {
    LOCK: """\
# Exact versions and hashes of everything that ganinv[s3,dev] needs: Python 3.11 to 3.13, Linux and macOS. torch is a CPU build:
#   pip install --require-hashes -r requirements.lock
# `python deploy/install.py`, which is what `make setup` does, also takes torch of the public index (requirements-cuda.lock).
# Made by `make lock`. To renew: `make lock UPGRADE=name`, then run the tests, slow ones too.
#
# torch and torchvision are pinned together: torchvision demands exactly its own torch, so that the version which lpips
# would pull in by itself replaces a CPU build of torch by the newest CUDA build.
""",
    CUDA: """\
# torch as the public index has it, and the libraries that it needs beside it on Linux: in place of torch in requirements.lock.
# `python deploy/install.py` puts the two together where pip would take this torch. Made by `make lock`.
""",
}
ALWAYS = (
    r"python_full_version < '3.14'",
    r"\(sys_platform == 'darwin' or sys_platform == 'linux'\)",
)
"""Markers that are true wherever the lock is for."""


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--uv", default="uv", help="the program")
    ask.add_argument("--upgrade", action="append", default=[], help="a package that may change its version")
    ask.add_argument("--wheel", action="append", default=[], type=Path, help="another build of a pinned version")
    args = ask.parse_args()
    old = {**locked(CUDA), **locked(LOCK)}
    with tempfile.TemporaryDirectory() as folder:
        pins, out = Path(folder, "pins.txt"), Path(folder, "out.lock")
        kept = [f"{name}=={entry.version}" for name, entry in old.items() if name not in args.upgrade]
        pins.write_text("\n".join(kept))
        command = [args.uv, "pip", "compile", ROOT / "pyproject.toml", "--universal", "--python-version", PYTHON]
        command += [word for extra in EXTRAS for word in ("--extra", extra)]
        command += ["--generate-hashes", "--no-header", "--quiet", "--constraint", pins, "--output-file", out]
        subprocess.run(command, check=True, cwd=ROOT)
        entries = read(out.read_text())
    beside = {name: entries.pop(name) for name in beside_torch(entries)}
    beside["torch"], entries["torch"] = entries["torch"], replace(entries["torch"], hashes=set())
    for name, entry in entries.items():
        if name in old and old[name].version == entry.version:  # files of other indices that were noted
            entry.hashes |= old[name].hashes
    for wheel in args.wheel:
        name, version = wheel.name.split("-")[:2]
        entry = entries[normal(name)]
        if entry.version != version.partition("+")[0]:
            raise SystemExit(f"{wheel.name} is no build of {name} {entry.version}, which is pinned")
        entry.hashes.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    if not entries["torch"].hashes:
        raise SystemExit(f"torch {entries['torch'].version} has no CPU build: download one and name it by --wheel")
    for file, found in ((LOCK, entries), (CUDA, beside)):
        file.write_text(HEAD[file] + "".join(str(found[name]) for name in sorted(found)))
        print(f"{file.name}: {len(found)} packages")


@dataclass
class Entry:
    """A package of a lock: version, where it is needed, hashes of its files, and who needs it."""

    name: str
    version: str
    marker: str = ""
    hashes: set[str] = field(default_factory=set)
    needed_by: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([head, *(f"--hash=sha256:{digest}" for digest in sorted(self.hashes))]) + "\n"


def read(text: str) -> dict[str, Entry]:
    """The packages of a lock's text, by their normal names."""
    found: dict[str, Entry] = {}
    entry = None
    for line in text.splitlines():
        if head := re.match(r"([\w.\[\],-]+)==([^\s;]+)(?: ; (.*?))?\s*\\?$", line):
            name = head[1].partition("[")[0]
            entry = found.setdefault(normal(name), Entry(normal(name), head[2], simpler(head[3] or "")))
        elif entry is not None and (digest := re.match(r"\s+--hash=sha256:([0-9a-f]{64})", line)):
            entry.hashes.add(digest[1])
        elif entry is not None and (via := re.match(r"\s+#\s+(?:via )?([\w.\[\]-]+)(?: \(.*\))?$", line)):
            entry.needed_by |= {normal(via[1].partition("[")[0])} - {"via", "-c"}
    return found


def simpler(marker: str) -> str:
    """A marker without what is true wherever the lock is for."""
    for part in ALWAYS:
        marker = re.sub(rf"{part} and |(?: and )?{part}", "", marker)
    return marker


def beside_torch(entries: dict[str, Entry]) -> set[str]:
    """The packages that are there for torch alone, and on Linux alone."""
    linux = {name for name, entry in entries.items() if "sys_platform == 'linux'" in entry.marker}
    found: set[str] = set()
    while more := {name for name in linux - found if entries[name].needed_by <= found | {"torch"}}:
        found |= more
    return found


def locked(file: Path) -> dict[str, Entry]:
    return read(file.read_text()) if file.exists() else {}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
