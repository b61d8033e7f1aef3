"""What training costs beside its steps: memory by the size of the data set, the loop around a bare step, two workers.

    python -m benchmarks.scale.training memory     1,000 : 100,000 rows of images, peak memory of the process
    python -m benchmarks.scale.training overhead   `ganinv train` inline : the same steps in a bare loop, processor seconds
    python -m benchmarks.scale.training workers    images/s of one worker and of two, with Ray Train

Each prints one line. Memory is measured in processes of their own. Overhead is of stretches of steps in turn, some of the
training with its checkpoint and as many in the bare loop, in processor seconds, so that what else runs touches both alike;
``workers`` alone needs a quiet machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ganinv.generators.files import open_generator
from ganinv.methods.learning import InverterRecipe
from ganinv.methods.registry import load_recipe
from ganinv.training.batches import MixedBatches
from ganinv.training.recipe import Recipe
from ganinv.training.trainer import Trainer
from tasks.engine import Engine, open_pools
from tasks.steps.train import TrainJob, run_train

EVERY = 10  # steps between two checkpoints, five times as many checkpoints as recipes have


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "memory-of", "overhead", "workers"])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if args.what == "memory":
            sizes = (1_000, 100_000)
            peaks = [_peak(rows, args.steps) for rows in sizes]
            said = "  ".join(f"{rows:,} rows {peak:.0f} MiB" for rows, peak in zip(sizes, peaks, strict=True))
            print(f"{said}  difference {peaks[1] - peaks[0]:+.0f} MiB")
        elif args.what == "memory-of":
            _train(place, _recipe(args.steps), _images(place, args.rows))
            print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
        elif args.what == "overhead":
            pairs = _in_turn(place, args.steps)
            whole, bare = (statistics.median(part) / EVERY for part in zip(*pairs, strict=True))
            ratio = statistics.median(one / other for one, other in pairs)
            print(
                f"bare {bare:.3f} s a step, ganinv train {whole:.3f} s, of a processor: {100 * (ratio - 1):+.1f} % (median of "
                f"{len(pairs)} pairs of {EVERY} steps and a checkpoint)"
            )
        else:
            one, two = (_rate(place, workers, args.steps) for workers in (1, 2))
            print(f"one worker {one:.1f} images/s, two {two:.1f}: {two / one:.2f} x")


def _recipe(steps: int) -> InverterRecipe:
    """The shipped one, with a checkpoint at the end alone."""
    changes = {"steps": steps, "checkpoint_every": steps, "validation.every": steps, "validation.images": 4}
    recipe = load_recipe("portraits-64-e4e", changes)
    assert isinstance(recipe, InverterRecipe)
    return recipe


def _images(place: Path, rows: int) -> str:
    """A Parquet file of JPEG images, a thousand different ones again and again."""
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(1000):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
        encoded.append(buffer.getvalue())
    path = place / "images.parquet"
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("image", pa.binary())])) as writer:
        for first in range(0, rows, 1000):
            some = range(first, min(first + 1000, rows))
            writer.write_table(pa.table({"id": [f"{k:07d}" for k in some], "image": encoded[: len(some)]}))
    return str(path)


def _train(place: Path, recipe: Recipe, dataset: str | None = None, workers: int = 1) -> float:
    """Seconds of a whole training, without the start of Python."""
    job = TrainJob.model_validate(
        {
            "store": str(place / f"store-{workers}"),
            "recipe": recipe,
            "workers": workers,
            "dataset": None if dataset is None else {"url": dataset},
        }
    )
    kind = "ray" if workers > 1 else "inline"
    started = time.perf_counter()
    with open_pools(Engine.model_validate({"kind": kind, "quiet": True})) as pools:
        run_train(job, pools)
    return time.perf_counter() - started


def _in_turn(place: Path, steps: int) -> list[tuple[float, float]]:
    """Processor seconds of each stretch of a training with its checkpoint, and of as many steps in a loop of nothing else."""
    recipe = _recipe(steps).model_copy(update={"checkpoint_every": EVERY})
    g = open_generator()
    trainer = Trainer(recipe, lambda: recipe.build(g, {}, None), MixedBatches(recipe.data, g, recipe.batch_size))
    pairs: list[tuple[float, float]] = []
    left: list[float] = []  # when the training went on

    def between() -> bool:
        """Asked before each stretch: whether to stop."""
        now = time.process_time()
        for _ in range(EVERY):
            trainer.step()
        then = time.process_time()
        if left:
            pairs.append((now - left[-1], then - now))
        left.append(time.process_time())
        return False

    job = TrainJob.model_validate({"store": str(place / "store"), "recipe": recipe})
    with open_pools(Engine(kind="inline", quiet=True), should_stop=between) as pools:
        run_train(job, pools)
    return pairs[1:]  # the first one warms up


def _rate(place: Path, workers: int, steps: int) -> float:
    """Images per second between the first and the last checkpoint, one thread each."""
    torch.set_num_threads(1)
    recipe = _recipe(steps).model_copy(update={"checkpoint_every": steps // 4})
    folder = place / f"rate-{workers}"
    _train(folder, recipe, workers=workers)
    parts = sorted((folder / f"store-{workers}" / "training" / recipe.kind).glob("part-*.parquet"))
    seconds = parts[-1].stat().st_mtime - parts[0].stat().st_mtime
    return (steps - steps // 4) * recipe.batch_size / seconds


def _peak(rows: int, steps: int) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale.training",
        "memory-of",
        "--rows",
        str(rows),
        "--steps",
        str(steps),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
