"""Planning 100,000 images, and asking how far a run of them came: seconds on local files and on S3.

    python -m benchmarks.manifest                   # 10,000 rows, under a minute
    python -m benchmarks.manifest --rows 100000     # the size of the bar: planning under 20 s, status under 5 s

Planning is what ``ganinv invert`` does before it computes: list the data set, open generator and encoder, cut units, write the
plan. It is timed for a folder of images, for tar shards and for a Parquet file. Status is asked of a run of which all units
but the last are done, with one image in a hundred failed: units of 16 (methods that optimise) and of 512 (encoders). The S3
server is moto, in this process; it is filled through its own memory, since only reading is timed, and it is slower than a
real one.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ganinv.store import Plan, RowError, open_store
from ganinv.store.progress import progress_at
from tasks.invert import DatasetRef, InvertJob, plan_invert

BUCKET = "benchmark"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, s3():
        sources = write_sources(Path(folder) / "data", args.rows)
        stores = write_runs(Path(folder) / "runs", args.rows)
        roots = {"local": folder, "s3": f"s3://{BUCKET}"}
        if "s3" in args.places:
            copy_to_s3(Path(folder))
        plan(Path(folder) / "data" / "parquet", Path(folder) / "warm-up")  # imports and weights
        print(f"{args.rows} rows")
        for place in args.places:
            for name in sources:
                took = plan(f"{roots[place]}/data/{name}", f"{roots[place]}/planned-{name}")
                print(f"  {place:5s} planning, {name:8s}          {took:7.2f} s")
            for name in stores:
                started = time.perf_counter()
                (found,) = progress_at(f"{roots[place]}/runs/latents/{name}")
                took = time.perf_counter() - started
                counts = f"{found.done} done, {found.failed} failed, {found.left} left"
                print(f"  {place:5s} status, {name:16s}    {took:7.2f} s   {counts}")


def plan(data: str | Path, store: str | Path) -> float:
    """Seconds to plan and to write the plan."""
    started = time.perf_counter()
    fields = {"store": str(store), "dataset": DatasetRef(url=str(data)), "method": "e4e"}
    job = InvertJob.model_validate(fields)
    open_store(job.store).latents["e4e"].start(plan_invert(job))
    return time.perf_counter() - started


def write_sources(folder: Path, rows: int) -> list[str]:
    """The same images as files, as tar shards of 10,000 and as Parquet: a pixel each, for nobody opens them."""
    png = io.BytesIO()
    Image.new("RGB", (1, 1)).save(png, "PNG")
    data = png.getvalue()
    for name in ("folder", "tar", "parquet"):
        (folder / name).mkdir(parents=True)
    for k in range(rows):
        (folder / "folder" / f"{k:09d}.png").write_bytes(data)
    for first in range(0, rows, 10_000):
        with tarfile.open(folder / "tar" / f"{first:09d}.tar", "w") as tar:
            for k in range(first, min(first + 10_000, rows)):
                member = tarfile.TarInfo(f"{k:09d}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    table = pa.table({"image_id": [f"{k:09d}" for k in range(rows)], "image": [data] * rows})
    pq.write_table(table, folder / "parquet" / "images.parquet")
    return ["folder", "tar", "parquet"]


def write_runs(root: Path, rows: int) -> list[str]:
    """Runs of which all units but the last are done."""
    ids = [f"{k:09d}" for k in range(rows)]
    names = []
    for size in (512, 16):
        collection = open_store(str(root)).latents[f"units-of-{size}"]
        plan = collection.start(Plan.of("invert", {"size": size}, {"method": "none"}, ids, size))
        for unit in plan.units[:-1]:
            failed = [
                RowError(i, "truncated", "the file ends before the image does") for i in unit.ids if int(i) % 100 == 0
            ]
            good = [i for i in unit.ids if int(i) % 100]
            collection.write_part(unit.index, pa.table({"image_id": good}), failed, {})
        names.append(collection.name)
    return names


@contextmanager
def s3() -> Iterator[None]:
    """An S3 server of this process, that fsspec finds by itself."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    fsspec.filesystem("s3").mkdir(BUCKET)
    yield
    server.stop()


def copy_to_s3(folder: Path) -> None:
    """Every file as an object, past HTTP."""
    from moto.s3.models import s3_backends

    (account,) = s3_backends
    backend = s3_backends[account]["aws"]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            backend.put_object(BUCKET, str(path.relative_to(folder)), path.read_bytes())


if __name__ == "__main__":
    main()
