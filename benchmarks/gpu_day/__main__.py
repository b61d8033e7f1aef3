"""Everything that waits for a GPU, in one command of at most ten minutes, into one JSON.

    python -m benchmarks.gpu_day --to benchmarks/results/gpu-day.json
    python -m benchmarks.gpu_day --tiny --to runs/dry.json          # a dry run: all code, tiny sizes, on whatever there is
    python -m benchmarks.gpu_day --only parity-float32 machine      # some items, by name; --list tells them

Parity with golden cases (float32, TF32, bfloat16), images per second of the generator and of every method at 64 and at 1,024
pixels, batch sizes, TFLOP/s, shares of the peak and of the floor, memory, steps as CUDA graphs and compiled, fused kernels and
plain ones, copies to the device. Each item runs in a process of its own with a limit of its own: one that fails, or hangs, or
breaks the device's context, costs a line. The process of the next item imports while one runs, and begins when that has ended.
The file is written anew after each item, so what is there when the day is cut short is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu_day.items import DRY, ITEMS, Item

LEAST = 3.0  # seconds that must be left for another item


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("gpu-day.json"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of all items together")
    parser.add_argument("--only", nargs="+", metavar="ITEM", default=[])
    parser.add_argument("--tiny", action="store_true", help="a dry run: tiny sizes, items of the same code once")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("GANINV_SHARED", "../shared")))
    parser.add_argument("--item", nargs=2, help=argparse.SUPPRESS)  # one of them, and where its lines go
    args = parser.parse_args()
    if args.item:
        work(args.item[0], Path(args.item[1]), args)
        return
    of_the_day = DRY if args.tiny else ITEMS
    chosen = [item for item in ITEMS if (item.name in args.only if args.only else item in of_the_day)]
    if unknown := set(args.only) - {item.name for item in ITEMS}:
        parser.error(f"no items {sorted(unknown)}; there are: {', '.join(item.name for item in ITEMS)}")
    if args.list:
        for item in ITEMS:
            print(f"{item.seconds:5.0f} s  {item.name}")
        return
    passed = [*(["--tiny"] if args.tiny else []), "--shared", str(args.shared)]
    # A processor takes longer than a GPU to do nothing; limits are the GPU's.
    factor = 20.0 if args.tiny else 1.0

    def command(item: Item, lines: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu_day", *passed, "--item", item.name, str(lines)]

    results = day(chosen, command, args.minutes * 60 * factor, args.to, factor)
    failed = [result["item"] for result in results if result["ended"] != "well"]
    print(
        f"{len(results) - len(failed)} of {len(results)} items, {args.to}"
        + (f"; not: {', '.join(failed)}" * bool(failed))
    )


def work(name: str, lines: Path, args: argparse.Namespace) -> None:
    """One item, in this process: imports, waits until it is told to begin, and measures."""
    item = next(item for item in ITEMS if item.name == name)
    module, _, function = item.run.partition(":")
    run = getattr(import_module(f"benchmarks.gpu_day.{module}"), function)
    from benchmarks.gpu_day.bench import FULL, TINY, Bench

    if not sys.stdin.readline():  # who would have told it is gone
        return
    run(Bench(TINY if args.tiny else FULL, lines, args.shared), **item.settings)


class Ready:
    """The process of an item, that waits to be told to begin."""

    def __init__(self, item: Item, command: Sequence[str], lines: Path) -> None:
        self.item, self.lines = item, lines
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=sys.stdout, stderr=self._said, text=True, start_new_session=True
        )

    def run(self, seconds: float) -> dict[str, Any]:
        """Begin, and be over after ``seconds`` at the latest: how it ended, and the lines that it wrote."""
        started = time.monotonic()
        with suppress(BrokenPipeError):  # it has ended already
            assert self._process.stdin is not None
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        why: dict[str, Any] = {}
        try:
            code = self._process.wait(seconds)
            ended = "well" if code == 0 else "badly"
            if code:
                why = {"error": self._last_words() or f"ended with {code}"}
        except subprocess.TimeoutExpired:
            ended, why = "late", {"error": f"not done within {seconds:.0f} s"}
        self.end()
        text = self.lines.read_text() if self.lines.is_file() else ""
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        took = round(time.monotonic() - started, 1)
        return {"item": self.item.name, "ended": ended, "seconds": took, **why, "lines": lines}

    def end(self) -> None:
        """End the process, and all that it started: compilers have workers of their own."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().strip().rpartition("\n")[2][:300]


def day(
    items: Sequence[Item], command: Callable[[Item, Path], Sequence[str]], seconds: float, to: Path, factor: float = 1.0
) -> list[dict[str, Any]]:
    """Run all items that the time allows, one after the other, and write what they found after each.

    Args:
        seconds: of all together.
        command: of the process of an item, which writes its lines into a file.
        factor: on the limits of items.
    """
    started, results = time.monotonic(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as place:

        def prepared(item: Item) -> Ready:
            lines = Path(place) / f"{item.name}.jsonl"
            return Ready(item, command(item, lines), lines)

        waiting = list(items)
        following = prepared(waiting.pop(0)) if waiting else None
        try:
            while following is not None:
                current, left = following, seconds - (time.monotonic() - started)
                following = prepared(waiting.pop(0)) if waiting else None
                if left < LEAST:
                    current.end()
                    results.append(
                        {"item": current.item.name, "ended": "left out", "error": "no time was left", "lines": []}
                    )
                else:
                    print(f"{current.item.name}", flush=True)
                    results.append(current.run(min(current.item.seconds * factor, left)))
                print(f"  {results[-1]['ended']}  {results[-1].get('error', '')}", flush=True)
                _write(to, results, time.monotonic() - started)
        finally:
            if following is not None:
                following.end()
    return results


def _write(to: Path, results: Sequence[dict[str, Any]], seconds: float) -> None:
    about = {"commit": _commit(), "date": time.strftime("%Y-%m-%d"), "seconds": round(seconds, 1)}
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps({**about, "items": list(results)}, indent=1) + "\n")


def _commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


if __name__ == "__main__":
    main()
