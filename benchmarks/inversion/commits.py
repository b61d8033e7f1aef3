"""Methods at an earlier commit of this repository against the working tree, in turns within one run: seconds and distance.

    python -m benchmarks.inversion.commits pti pti-w --before 54f1f4c --images 16 --rounds 3

The earlier commit is checked out into a temporary worktree. Each side has a process of its own that stays for the whole run,
with the same images, number of threads and generator (whose fingerprints must be equal), and inverts all images once per round
while the other waits. Time is processor seconds, or wall-clock seconds on a GPU. The images that both rendered are then measured
here, alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.generator.synthesis import device_words
from benchmarks.inversion.peers import measured
from benchmarks.inversion.per_image import targets
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.losses.distance import open_distance

ROOT = Path(__file__).parents[2]
PROCESS = Path(__file__).with_name("commit_process.py")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generator", default="portraits-64")
    parser.add_argument("--samples", action="store_true", help="of the generator, in place of test portraits")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = open_generator(args.generator, device)
    target = targets(g, args.images, args.samples)
    distance = open_distance("embedded", g)
    print(f"{g.name}, {device_words(g.device)}, {len(target)} images, {args.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as place, checkout(args.before, Path(place) / "before") as earlier:
        images = Path(place) / "images.pt"
        torch.save(target.images.cpu(), images)
        given = {"generator": args.generator, "device": device, "images": str(images), "batch": args.batch}
        for method in args.methods:
            settings = given | {"method": method}
            with Side(earlier, settings, Path(place) / "a") as before, Side(ROOT, settings, Path(place) / "b") as now:
                same(before, now)
                pairs = [(before.run(), now.run()) for _ in range(args.rounds)]
                (old_mse, old), (mse, new) = (
                    measured(s.rendered().to(device), target, distance) for s in (before, now)
                )
            ratios = [a / b for a, b in pairs]
            old_seconds, seconds = (statistics.median(side) / len(target) for side in zip(*pairs, strict=True))
            print(
                f"{method:14s} {old_seconds:.3f} s/image at {args.before}, {seconds:.3f} now: "
                f"{statistics.median(ratios):.2f} x as fast ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"distance {old:.5f} and {new:.5f} ({new / old:.3f} x), mse {old_mse:.5f} and {mse:.5f} ({mse / old_mse:.3f} x)",
                flush=True,
            )


@contextmanager
def checkout(commit: str, place: Path) -> Iterator[Path]:
    """A worktree of a commit, as long as it is needed.

    Raises:
        ConfigError: no such commit, or no repository.
    """
    made = _git("worktree", "add", "--detach", "--force", str(place), commit)
    if made.returncode:
        raise ConfigError(f"could not check out {commit!r}: {made.stderr.strip()}; expected a commit of {ROOT}")
    try:
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)


class Side:
    """A process that runs one method with the code of one tree. It starts with a first image, which is not timed.

    Args:
        tree: a folder with ``ganinv``. settings: what ``commit_process`` reads. found: a file for what it renders.

    Raises:
        ConfigError: the process ends before it answers; its last line is told.
    """

    def __init__(self, tree: Path, settings: dict[str, Any], found: Path) -> None:
        self.tree, self._found = tree, found
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(torch.get_num_threads())}
        self._process = subprocess.Popen(
            [sys.executable, str(PROCESS), json.dumps(settings | {"tree": str(tree), "found": str(found)})],
            cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def fingerprint(self) -> str:
        """Of the generator that this tree opens."""
        return str(self._answer("open"))

    def run(self) -> float:
        """Invert all images once; processor seconds."""
        return float(self._answer("run"))

    def rendered(self) -> torch.Tensor:
        """Of the last run, [B, 3, R, R]."""
        self._answer("render")
        rendered: torch.Tensor = torch.load(self._found, weights_only=True)
        return rendered

    def _answer(self, what: str) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(what + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # why it ended is read below
        last = "it said nothing"
        for line in self._process.stdout:
            if line.startswith("FOUND "):
                return json.loads(line.removeprefix("FOUND "))
            last = line.strip() or last
        raise ConfigError(f"the process in {self.tree} ended before it could {what}: {last}")


def same(before: Side, now: Side) -> None:
    """Both sides have one generator.

    Raises:
        ConfigError: if not.
    """
    old, new = before.fingerprint(), now.fingerprint()
    if old != new:
        raise ConfigError(
            f"the generator was another one then ({old}, now {new}): name a weights file with --generator"
        )


if __name__ == "__main__":
    main()
