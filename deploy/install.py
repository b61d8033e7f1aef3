"""``make setup``: the packages of ``requirements.lock``, with their hashes, into the environment of the Python that runs this.

On Linux torch comes with CUDA's libraries (``requirements-cuda.lock``) from the public index and without them from an index or a
folder of CPU builds. Which build pip would take here is asked first; both locks have the hashes of its files.

A pip waits for the network, then unpacks on one core. So several share the packages: the locks name everything that is needed,
so that no pip has to look for what a package needs, and ``pip check`` says at the end if something is missing after all.
Nothing is compiled by pip, which would compile every module of every package: what most processes import is compiled at the end,
by importing it.
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
PIP = (sys.executable, "-m", "pip")
INSTALL = (*PIP, "install", "--quiet", "--no-deps")
TOGETHER = 4  # processes: twice as fast as one on two cores; more are no faster
# Compiling both halves takes about as long. Left to the first tests, each of their processes would compile all of it.
IMPORTED = (
    "torch.utils.tensorboard, ray",
    "prefect, pandas, polars, scipy.stats, sklearn.linear_model, matplotlib.pyplot, moto.server",
)


def main() -> int:
    name, digest = torch_here()
    packages = blocks(LOCK)
    if digest in blocks(CUDA)["torch"]:
        packages |= blocks(CUDA)
    elif digest not in packages["torch"]:
        print(
            f"{name} has the sha256 {digest}, which neither {LOCK.name} nor {CUDA.name} knows. If it comes from where "
            f"it should, add it: make lock WHEEL=path/of/the/wheel",
            file=sys.stderr,
        )
        return 1
    code = install(list(packages.values()), sys.argv[1:])
    if code or "--dry-run" in sys.argv:
        return code
    ending = [subprocess.Popen([sys.executable, "-c", f"import {modules}"]) for modules in IMPORTED]
    ending.append(subprocess.Popen([*PIP, "check"]))
    code = next(filter(None, [process.wait() for process in ending]), 0)
    if code:
        print(f"{sys.prefix} has packages that do not fit or do not load: remove it and begin anew", file=sys.stderr)
    return code


def install(packages: list[str], more: list[str]) -> int:
    """Install packages, given as they stand in a lock. The first exit code that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        pips = []
        for number in range(min(TOGETHER, len(packages))):
            file = Path(folder, f"{number}.lock")
            file.write_text("".join(packages[number::TOGETHER]))
            command = [*INSTALL, "--require-hashes", "--no-compile", *more, "--requirement", str(file)]
            pips.append(subprocess.Popen(command))
        codes = [pip.wait() for pip in pips]
    return next(filter(None, codes), 0)


def torch_here() -> tuple[str, str]:
    """Where pip would take the pinned torch from, and the sha256 of that file."""
    pin = blocks(LOCK)["torch"].split(maxsplit=1)[0]
    asked = ("--dry-run", "--ignore-installed", "--report", "-", pin)
    done = subprocess.run([*INSTALL, *asked], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)["install"][0]["download_info"]
    return found["url"], found["archive_info"]["hashes"]["sha256"]


def blocks(lock: Path) -> dict[str, str]:
    """Package -> its lines in a lock."""
    return {found[1]: found[0] for found in re.finditer(r"^(\S+)==.*\n(?: .*\n)*", lock.read_text(), re.M)}


if __name__ == "__main__":
    sys.exit(main())
