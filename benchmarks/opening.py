"""What it costs to open a generator of resolution 1024, against reading and hashing the file.

    python benchmarks/opening.py [--rounds 5]

Writes a random generator (config F) with its discriminator in each format, then measures each step in a process of its own:
seconds of ``hashlib.sha256(open(file).read())``, seconds of ``open_generator``, and the memory it takes beside the file's
size. The limits are 1.3 times the seconds and 1.5 times the size.
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
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        print("file            MiB   hash s   open s   ratio   memory / size")
        for file in write_files(Path(folder)):
            size = file.stat().st_size
            pairs = [(measure(HASH, file)[0], measure(OPEN, file)) for _ in range(rounds)]
            hashing, opening = (
                statistics.median(column) for column in zip(*((h, o[0]) for h, o in pairs), strict=True)
            )
            memory = max(o[1] for _, o in pairs)
            columns = (f"{hashing:>9.2f}", f"{opening:>9.2f}", f"{opening / hashing:>8.2f}", f"{memory / size:>16.2f}")
            print(f"{file.name:<14}{size / 2**20:>5.0f}", *columns, sep="")


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


def measure(program: str, file: Path) -> list[float]:
    """Numbers that a Python program prints about ``file``."""
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
