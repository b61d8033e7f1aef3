"""How long it takes from the start of ``ganinv invert`` until the first image is inverted and stored.

    python -m benchmarks.scale.start [--rounds 5] [--ways ray inline flow]

A run first warms the machine up (file caches, compiled Python). The ways: the command with Ray's workers, the command in
one process, and the command as a Prefect flow in this process with its own short-lived server (``ganinv submit``). Each
takes its turn in every round beside a process that only imports torch, so that a busy machine is seen as such: seconds, and
as multiples of that import. The bars, on a quiet machine: 8 s with Ray, 3 s inline, 10 s as a flow.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ganinv.data.demo import demo_dataset

COMMANDS = {
    "ray": ["invert", "--engine", "ray"],
    "inline": ["invert", "--engine", "inline"],
    "flow": ["submit", "--engine", "ray"],
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--method", default="e4e")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        images = demo_dataset(Path(place) / "images")
        seconds: dict[str, list[float]] = {way: [] for way in ["import torch", *args.ways]}
        for k in range(args.rounds + 1):
            now = {"import torch": importing()}
            now |= {
                way: first_part(COMMANDS[way], images, Path(place) / f"{way}-{k}", args.method) for way in args.ways
            }
            for way in now if k else ():
                seconds[way].append(now[way])
    unit = statistics.median(seconds["import torch"])
    print(f"{args.rounds} rounds, method {args.method}; seconds to the first stored image")
    for way, each in seconds.items():
        middle = statistics.median(each)
        print(f"{way:14s} {middle:7.2f} s ({min(each):.2f} to {max(each):.2f})   {middle / unit:5.1f} x import torch")


def importing() -> float:
    """Seconds of a process that imports torch."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.monotonic() - started


def first_part(command: list[str], images: Path, store: Path, method: str) -> float:
    """Seconds from the start of the process to the first part; then the process may finish."""
    positional, options = ([str(images)], []) if command[0] == "submit" else ([], ["--dataset", str(images)])
    ganinv = str(Path(sys.executable).with_name("ganinv"))
    line = [ganinv, command[0], *positional, *command[1:], *options]
    line += ["--store", str(store), "--method", method, "--limit", "16"]
    said = store.with_suffix(".log")
    started = time.monotonic()
    with said.open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    while not any(store.glob("latents/*/part-*.parquet")):
        if process.poll() not in (None, 0):
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}: {said.read_text()[-2000:]}")
        time.sleep(0.01)
    took = time.monotonic() - started
    try:
        process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
    return took


if __name__ == "__main__":
    main()
