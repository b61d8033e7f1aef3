"""What it costs to open a generator of resolution 1024, against reading and hashing the file.

    python -m benchmarks.generator.opening [--rounds 9]

Writes a random generator (config F) with its discriminator in each format, then measures each step in a process of its own:
seconds of ``hashlib.sha256(open(file).read())``, seconds of ``open_generator``, and the memory it takes beside the file's
size. The limits are 1.3 times the seconds (the median over rounds) and 1.5 times the size. ``open_generator`` hashes beside
its reading, so a machine whose cores are all busy shows more than a quiet one.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import save_generator
from ganinv.generators.stylegan2 import Generator

WIDTHS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
HASH = """
import hashlib, sys, time
start = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    hashlib.sha256(file.read()).hexdigest()
print(time.perf_counter() - start)
"""
OPEN = """
import sys, time
from ganinv.generators.files import open_generator
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
open_generator()  # imports are not what is measured
before = peak()
start = time.perf_counter()
open_generator(sys.argv[1])
print(time.perf_counter() - start, peak() - before)
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder))
        print("file            MiB  read + hash s   open s   ratio (quartiles)   memory / size")
        for file in files:
            hashing, opening, memory = measure(file, rounds)
            low, ratio, high = statistics.quantiles((o / h for h, o in zip(hashing, opening, strict=True)), n=4)
            size = file.stat().st_size
            print(
                f"{file.name:<14}{size / 2**20:5.0f}{statistics.median(hashing):15.2f}{statistics.median(opening):9.2f}"
                f"{ratio:8.2f} ({low:.2f}-{high:.2f}){memory / size:16.2f}"
            )


def measure(file: Path, rounds: int) -> tuple[list[float], list[float], float]:
    """Seconds of reading and hashing, seconds of opening, and the most memory; after a round that does not count.

    The two take turns in going first, so that what else the machine does meets both alike.
    """
    hashing: list[float] = []
    opening: list[float] = []
    memory = 0.0
    for i in range(rounds + 1):
        numbers = {program: run(program, file) for program in ((HASH, OPEN) if i % 2 else (OPEN, HASH))}
        if i:
            hashing.append(numbers[HASH][0])
            opening.append(numbers[OPEN][0])
            memory = max(memory, numbers[OPEN][1])
    return hashing, opening, memory


def write_files(folder: Path) -> list[Path]:
    """The formats that are one file, and the shape of NVIDIA's pickles: torch streams inside a pickle."""
    g = Generator(GeneratorConfig(resolution=1024, channels=WIDTHS)).requires_grad_(False)
    g.discriminator = Discriminator(1024, WIDTHS).requires_grad_(False)
    g.measure_w(1000)
    files = [folder / "rosinality.pt", folder / "nvidia.pt", folder / "streams.pkl"]
    save_generator(g, str(files[0]), "rosinality")
    save_generator(g, str(files[1]), "nvidia")
    with files[2].open("wb") as file:
        pickle.dump(torch.load(files[1], weights_only=True), file, 4)
    return files


def run(program: str, file: Path) -> list[float]:
    """Numbers that a Python program prints about ``file``."""
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
