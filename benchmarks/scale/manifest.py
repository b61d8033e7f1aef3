"""Planning 100,000 images, and asking how far a run of them came: seconds on local files and on S3.

    python -m benchmarks.scale.manifest                   # 10,000 rows, under a minute
    python -m benchmarks.scale.manifest --rows 100000     # the size of the bar: planning under 20 s, status under 5 s
    python -m benchmarks.scale.manifest --rows 100000 --only status
    python -m benchmarks.scale.manifest --rows 100000 --places s3 --rclone rclone     # on a server that is not moto

Planning is what ``ganinv invert`` does before it computes: list the data set, open generator and encoder, cut units, write the
plan. It is timed for a folder of images, for tar shards and for a Parquet file. Status is asked of a run of which all units
but the last are done, with one image in a hundred failed, and of one that is finished: units of 16 (methods that optimise) and
of 512 (encoders).

The S3 server is moto in a process of its own, filled through its own memory, since only reading is timed. It sorts every key
again for each page of a listing, so the seconds beside S3 are mostly the server's own. Therefore each line tells besides: the
processor seconds that this process took, which a real server does not change; those that the server took; and the requests. A
real server takes some 30 to 100 ms for one, a thousand keys a page; of small objects 32 are read at once. With ``--rclone`` the
server is ``rclone serve s3`` on the local folder, which does not tell its requests.

What the driver keeps in memory is told by ``benchmarks.scale.bulk --memory``.
"""

from __future__ import annotations

import argparse
import io
import itertools
import logging
import multiprocessing
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ganinv.store import Collection, Plan, RowError, Unit, open_store
from ganinv.store.failed import FailedNote
from ganinv.store.progress import progress_at
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, plan_invert

BUCKET = "benchmark"
SINCE = 100
"""Units that are done since the driver's last note (``ganinv.store.failed``): ten a second are many for units of 16."""
R = TypeVar("R")


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, processor seconds here and in the server, requests."""

    wall: float
    own: float
    server: float
    requests: int

    def __str__(self) -> str:
        split = f", server {self.server:6.2f} s" if self.server else ""
        split += f", {self.requests:4d} requests" if self.requests else ""
        return f"{self.wall:7.2f} s (own {self.own:5.2f} s{split})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    parser.add_argument("--only", choices=("planning", "status"))
    parser.add_argument("--rclone", help="the program; without it the S3 server is moto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder) / "data", args.rows) if args.only != "status" else []
        stores = write_runs(Path(folder) / "runs", args.rows) if args.only != "planning" else []
        bucket = Path(folder).name if args.rclone else BUCKET
        serving = rclone_server(Path(folder), args.rclone) if args.rclone else s3_server(Path(folder))
        with serving if "s3" in args.places else nullcontext(Server(None)) as server:
            print(f"{args.rows} rows")
            for place in args.places:
                root = {"local": folder, "s3": f"s3://{bucket}"}[place]
                if sources:
                    plan(f"{root}/data/parquet", f"{root}/warm-up")  # imports and weights
                for name in sources:
                    _, cost = server.timed(partial(plan, f"{root}/data/{name}", f"{root}/planned-{name}"))
                    print(f"  {place:5s} planning, {name:8s}          {cost}")
                for name in stores:
                    (found,), cost = server.timed(partial(progress_at, f"{root}/runs/latents/{name}"))
                    counts = f"{found.done} done, {found.failed} failed, {found.left} left"
                    print(f"  {place:5s} status, {name:16s}    {cost}   {counts}", flush=True)


def plan(data: str | Path, store: str | Path) -> None:
    """Plan, and write the plan."""
    fields = {"store": str(store), "dataset": DatasetRef(url=str(data)), "method": "e4e"}
    job = InvertJob.model_validate(fields)
    open_store(job.store).latents["e4e"].start(plan_invert(job))


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
    """Runs of which all units but the last are done, and one that is finished."""
    ids, latents = [f"{k:09d}" for k in range(rows)], open_store(str(root)).latents
    for name, size in (("units-of-512", 512), ("units-of-16", 16)):
        collection = latents[name]  # opened once: each opening reads the plan
        units = collection.start(Plan.of("invert", {"size": size}, {"method": "none"}, ids, size)).units[:-1]
        note = FailedNote(collection)
        for unit in units[:-SINCE]:
            write_unit(collection, unit)
            note.count(unit.index, len(failed_of(unit)))
        note.write()
        for unit in units[-SINCE:]:
            write_unit(collection, unit)
    finished = latents["finished-of-16"]
    shutil.copytree(latents["units-of-16"].url, finished.url)
    write_unit(finished, finished.plan().units[-1])
    finished.finish()
    return ["units-of-512", "units-of-16", "finished-of-16"]


def failed_of(unit: Unit) -> list[str]:
    return [i for i in unit.ids if int(i) % 100 == 0]


def write_unit(collection: Collection, unit: Unit) -> None:
    """One image in a hundred fails."""
    failed = [RowError(i, "truncated", "the file ends before the image does") for i in failed_of(unit)]
    good = [i for i in unit.ids if int(i) % 100]
    collection.write_part(unit.index, pa.table({"image_id": pa.array(good, pa.string())}), failed, {})


class Server:
    """What a server has cost so far: as its process tells through ``pipe``, or its processor seconds alone, by ``pid``."""

    def __init__(self, pipe: Connection | None, pid: int | None = None) -> None:
        self._pipe, self._pid = pipe, pid

    def timed(self, call: Callable[[], R]) -> tuple[R, Cost]:
        """The result of a call, and what it cost."""
        server, wall, own = self._asked(), time.perf_counter(), time.process_time()
        result = call()
        wall, own = time.perf_counter() - wall, time.process_time() - own
        seconds, requests = (after - before for after, before in zip(self._asked(), server, strict=True))
        return result, Cost(wall, own, seconds, int(requests))

    def _asked(self) -> tuple[float, float]:
        if self._pid is not None:
            ticks = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # user's, system's
            return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 0
        if self._pipe is None:
            return 0.0, 0
        self._pipe.send("?")
        seconds, requests = self._pipe.recv()
        return seconds, requests


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """An S3 server that holds the files of ``folder``, and that fsspec finds by itself."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, folder), daemon=True)
    process.start()
    os.environ |= {"AWS_ENDPOINT_URL": here.recv(), "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    yield Server(here)
    process.terminate()


@contextmanager
def rclone_server(folder: Path, program: str) -> Iterator[Server]:
    """``rclone serve s3``, to which ``folder`` is a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = "benchmark"
    flags = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{key}", "--vfs-cache-mode", "writes"]
    process = subprocess.Popen([program, "serve", "s3", *flags, str(folder.parent)], stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
    }
    try:
        for _ in range(100):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Server(None, process.pid)
    finally:
        process.kill()
        process.wait()


def serve(pipe: Connection, folder: Path) -> None:
    """Serve ``folder`` as a bucket; then answer each message with (processor seconds, requests) so far."""
    import moto.moto_server.werkzeug_app as app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    count, application = itertools.count(), app.DomainDispatcherApplication(app.create_backend_app)

    def counting(environ: dict[str, Any], start_response: Any) -> Any:
        next(count)
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=app.MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = backend.put_object(BUCKET, str(path.relative_to(folder)), path.read_bytes())
            key.last_modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    pipe.send(f"http://127.0.0.1:{server.server_port}")
    while pipe.recv():
        pipe.send((time.process_time(), int(repr(count)[6:-1])))


if __name__ == "__main__":
    main()
