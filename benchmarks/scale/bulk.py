"""What the pipeline costs over a bare loop: images per second of ``ganinv invert --method e4e`` against a loop that loads,
decodes and encodes, on the same cores, with the same threads and the same batch size; and the driver's memory.

    python -m benchmarks.scale.bulk                                      # 512 images, a minute or two
    python -m benchmarks.scale.bulk --images 5000 --rounds 3             # the size of the bar: at least 90 %
    python -m benchmarks.scale.bulk --images 5000 --rounds 3 --measure   # both also render and compare each result
    python -m benchmarks.scale.bulk --memory 5000 100000                 # the driver's memory, with workers that only write

The images are JPEGs of 256x256 pixels that the embedded generator made. Both sides have ``--slots`` processes of one
thread. ``whole``: from the start of the first process to the end of the last, imports, weights and Ray included, and for
the pipeline also plan, parts and manifest. ``running``: from when all workers are built; that is what a long run sees. The
two take turns, so that what else the machine does meets both alike. The bare loop writes one Parquet file in the end.
With ``--engine inline`` both are one process, which leaves Ray out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganinv.store import RowError, Unit
from tasks.pool import UnitReport

if TYPE_CHECKING:
    from tasks.steps.invert import InvertJob

BATCH = 64


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--engine", choices=("ray", "inline"), default="ray")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--memory", type=int, nargs="+", metavar="ROWS")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)  # one side in a process of its own
    args = parser.parse_args()
    args.slots = 1 if args.engine == "inline" else args.slots
    if args.run:
        side, folder, out, number = args.run
        SIDES[side](Path(folder), Path(out), int(number), args)
        return
    with tempfile.TemporaryDirectory() as place:
        if args.memory:
            memory(Path(place), args.memory, args)
        else:
            throughput(Path(place), args)


def throughput(place: Path, args: argparse.Namespace) -> None:
    """Both sides in turn, ``rounds`` times."""
    print(
        f"{args.images} images, {args.engine}, {args.slots} processes of one thread, batches of {BATCH}, measure {args.measure}"
    )
    write_images(place / "images", args.images)
    rounds: list[dict[str, Rates]] = []
    for k in range(args.rounds):
        sides = {"bare": bare, "pipeline": pipeline}
        found = {
            name: sides[name](place, k, args) for name in (("bare", "pipeline") if k % 2 else ("pipeline", "bare"))
        }
        rounds.append(found)
        for name in sides:
            print(f"  {name:9s} whole {found[name].whole:7.2f} images/s   running {found[name].running:7.2f} images/s")
    for what in ("whole", "running"):
        ratios = [getattr(r["pipeline"], what) / getattr(r["bare"], what) for r in rounds]
        print(f"{what}: pipeline / bare = {statistics.median(ratios):.1%}  ({min(ratios):.1%} to {max(ratios):.1%})")


@dataclass(frozen=True)
class Rates:
    """Images per second, with and without the start."""

    whole: float
    running: float


def bare(place: Path, number: int, args: argparse.Namespace) -> Rates:
    """``slots`` processes, each with every ``slots``-th image, that begin together when all have their weights."""
    started = time.monotonic()
    out = place / f"bare-{number}"
    out.mkdir()
    processes = [_start("bare", place / "images", out, slot, args) for slot in range(args.slots)]
    _wait(processes)
    ended = time.monotonic()
    times = [json.loads(path.read_text()) for path in out.glob("times-*.json")]
    running = max(t["end"] for t in times) - max(t["ready"] for t in times)
    return Rates(args.images / (ended - started), args.images / running)


def bare_process(folder: Path, out: Path, slot: int, args: argparse.Namespace) -> None:
    """The loop itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from ganinv.codes.code import Code
    from ganinv.data import open_dataset
    from ganinv.generators.files import open_generator
    from ganinv.losses.distance import between, open_distance
    from ganinv.methods.files import open_inverter

    generator = open_generator("portraits-64")
    encoder, distance = open_inverter("e4e", generator=generator), open_distance("embedded", generator)
    dataset = open_dataset(str(folder))
    ids = dataset.ids[slot :: args.slots]
    (out / f"ready-{slot}").touch()
    while len(list(out.glob("ready-*"))) < args.slots:
        time.sleep(0.005)
    ready, latents, numbers = time.monotonic(), list[Any](), list[Any]()
    with torch.inference_mode():
        for first in range(0, len(ids), BATCH):
            images = dataset.load(ids[first : first + BATCH], generator.resolution).images
            w = encoder(images).w
            latents.append(w)
            if args.measure:
                rendered = generator.synthesize(Code(w=w))
                far = between(distance.features(rendered), distance.features(images))
                numbers += zip((rendered - images).square().mean((1, 2, 3)).tolist(), far.tolist(), strict=True)
    w = torch.cat(latents)
    table = pa.table({"image_id": ids, "w": pa.FixedSizeListArray.from_arrays(w.flatten().numpy(), w[0].numel())})
    pq.write_table(table, out / f"part-{slot}.parquet", compression="zstd")
    (out / f"times-{slot}.json").write_text(json.dumps({"ready": ready, "end": time.monotonic()}))


def pipeline(place: Path, number: int, args: argparse.Namespace) -> Rates:
    """The same images through plan, pool, workers and store."""
    started = time.monotonic()
    out = place / f"store-{number}"
    out.mkdir()
    _wait([_start("pipeline", place / "images", out, 0, args)])
    ended = time.monotonic()
    times = json.loads((out / "times.json").read_text())
    return Rates(args.images / (ended - started), args.images / (times["end"] - times["ready"]))


def pipeline_process(folder: Path, out: Path, _: int, args: argparse.Namespace) -> None:
    """What the command does, with a clock beside it."""
    from tasks.engine import Engine, open_pools
    from tasks.sources import DatasetRef
    from tasks.steps.invert import InvertJob, run_invert

    fields = {"store": str(out / "store"), "dataset": DatasetRef(url=str(folder)), "method": "e4e"}
    job = InvertJob.model_validate(fields | {"measure": args.measure, "overrides": {"batch_size": BATCH}})
    with open_pools(Engine(kind=args.engine, slots=args.slots, quiet=True), Clock) as pools:
        result = run_invert(job, pools)
        ended = time.monotonic()
    assert result["rows"] == args.images, result
    (out / "times.json").write_text(json.dumps({"ready": Clock.ready, "end": ended}))


class Clock:
    """When the first worker began: the first report came ``seconds`` after that."""

    ready: float | None = None

    def __init__(self, name: str, total: int) -> None:
        pass

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def report(self, report: UnitReport) -> None:
        """Only the first counts."""
        if Clock.ready is None:
            Clock.ready = time.monotonic() - report.seconds


def memory(place: Path, sizes: Sequence[int], args: argparse.Namespace) -> None:
    """The most memory of the driver, in a process of its own for each size."""
    print("rows      driver MiB, once imported   at most   growth KiB / 1000 rows")
    for rows in sizes:
        folder = place / f"images-{rows}"
        write_table(folder, rows)
        _wait([_start("driver", folder, place / f"store-{rows}", 0, args)])
        before, most = json.loads((place / f"store-{rows}.json").read_text())
        print(f"{rows:<10d}{before / 2**20:22.1f}{most / 2**20:10.1f}{(most - before) / 1024 / rows * 1000:20.1f}")


def driver_process(folder: Path, out: Path, _: int, args: argparse.Namespace) -> None:
    """A run whose workers compute nothing, so that 100,000 images take seconds."""
    from tasks.engine import Engine, open_pools
    from tasks.sources import DatasetRef
    from tasks.steps.invert import InvertJob, run_invert

    fields = {"store": str(out), "dataset": DatasetRef(url=str(folder)), "method": "e4e"}
    with open_pools(Engine(kind=args.engine, slots=args.slots, quiet=True)) as pools:
        pools.get()
        before = _peak()
        run_invert(InvertJob.model_validate(fields), pools, worker=WritingWorker)  # type: ignore[arg-type]
        out.with_suffix(".json").write_text(json.dumps([before, _peak()]))


class WritingWorker:
    """Writes the parts of its units, with nothing in them but ids."""

    def __init__(self, job: InvertJob, method: object) -> None:
        from ganinv.store import open_store

        self.collection = open_store(job.store).latents[job.collection_name]

    def process(self, ids: Sequence[str]) -> list[Any]:
        return list(ids)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        import pyarrow as pa

        self.collection.write_part(unit.index, pa.table({"image_id": rows}), failures, dict.fromkeys(rows, 0.0))
        return {}


SIDES = {"bare": bare_process, "pipeline": pipeline_process, "driver": driver_process}


def write_images(folder: Path, count: int) -> None:
    """JPEGs of 256 pixels, as photographs are, out of the embedded generator."""
    import torch
    from PIL import Image

    from ganinv.codes.code import Code
    from ganinv.generators.files import open_generator

    folder.mkdir(parents=True)
    generator, rng = open_generator("portraits-64"), torch.Generator().manual_seed(0)
    for first in range(0, count, BATCH):
        z = torch.randn(min(BATCH, count - first), generator.z_dim, generator=rng)
        rendered = generator.render(Code(w=generator.map(z, truncation_psi=0.8)))
        pixels = ((rendered + 1) * 127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        for k, image in enumerate(pixels):
            large = Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC)
            large.save(folder / f"{first + k:06d}.jpg", quality=92)


def write_table(folder: Path, rows: int) -> None:
    """A data set as a manifest: Parquet with ids and images, that nobody will open."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    table = pa.table({"image_id": [f"image-{k:09d}" for k in range(rows)], "image": [b"none"] * rows})
    pq.write_table(table, folder / "images.parquet")


def _start(side: str, folder: Path, out: Path, number: int, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.scale.bulk", "--images", str(args.images), "--slots", str(args.slots)]
    command += [
        "--engine",
        args.engine,
        *["--measure"] * args.measure,
        "--run",
        side,
        str(folder),
        str(out),
        str(number),
    ]
    return subprocess.Popen(command, env=os.environ | one)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"a process ended with {codes}")


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
