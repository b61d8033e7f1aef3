"""``make setup``: the packages of ``requirements.lock``, with their hashes, into the environment of the Python that runs this.

On Linux torch comes with CUDA's libraries (``requirements-cuda.lock``) from the public index and without them from an index or a
folder of CPU builds. Which build pip would take here is asked first; both locks have the hashes of its files.
Further words are for pip: ``python deploy/install.py --dry-run`` downloads and checks everything and installs nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK, CUDA = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
PIP = (sys.executable, "-m", "pip", "install", "--quiet")


def main() -> int:
    name, digest = torch_here()
    with tempfile.TemporaryDirectory() as folder:
        files = [LOCK]
        if digest in block(CUDA, "torch"):
            rest = Path(folder, "without-torch.lock")
            rest.write_text(LOCK.read_text().replace(block(LOCK, "torch"), ""))
            files = [rest, CUDA]
        elif digest not in block(LOCK, "torch"):
            print(
                f"{name} has the sha256 {digest}, which neither {LOCK.name} nor {CUDA.name} knows. If it comes from where "
                f"it should, add it: make lock WHEEL=path/of/the/wheel",
                file=sys.stderr,
            )
            return 1
        words = [word for file in files for word in ("--requirement", str(file))]
        return subprocess.run([*PIP, "--require-hashes", "--no-compile", *sys.argv[1:], *words]).returncode


def torch_here() -> tuple[str, str]:
    """Where pip would take the pinned torch from, and the sha256 of that file."""
    pin = block(LOCK, "torch").split(maxsplit=1)[0]
    asked = ("--dry-run", "--ignore-installed", "--no-deps", "--report", "-")
    done = subprocess.run([*PIP, *asked, pin], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)["install"][0]["download_info"]
    return found["url"], found["archive_info"]["hashes"]["sha256"]


def block(lock: Path, name: str) -> str:
    """The lines of a package in a lock."""
    found = re.search(rf"^{name}==.*\n(?: .*\n)*", lock.read_text(), re.M)
    if found is None:
        raise SystemExit(f"{lock} has no {name}: make it again with `make lock`")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
