"""Workers that fail on purpose. They write one file per unit, so that what was committed can be counted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ganinv.errors import StoreError
from ganinv.store import RowError, Unit, open_store


@dataclass
class FolderWorker:
    """Squares ids such as ``img-7``.

    Args:
        folder: ``part-<index>.json`` per unit goes there; ``calls`` holds a line for each call of ``process``.
        raise_on, die_on, hang_on, refuse: ids on which it raises, dies by SIGKILL, hangs, or reports a RowError.
        once: die or hang only the first time (a marker file remembers it).
        memory: raises MemoryError for more images than this at once.
        broken_commits: so many commits fail before they work.
        away: so many calls of ``process`` find their storage away before they work.
        die_above: dies by SIGKILL of more images than this at once.
    """

    folder: str
    raise_on: Sequence[str] = ()
    die_on: Sequence[str] = ()
    hang_on: Sequence[str] = ()
    refuse: Sequence[str] = ()
    once: bool = True
    memory: int = 10**6
    seconds: float = 0.0
    broken_commits: int = 0
    away: int = 0
    die_above: int = 10**6

    def process(self, ids: Sequence[str]) -> list[Any]:
        with open(Path(self.folder) / "calls", "a") as file:
            file.write(json.dumps({"ids": list(ids), "pid": os.getpid()}) + "\n")
        if len(ids) > self.memory:
            raise MemoryError(f"{len(ids)} images")
        if len(ids) > self.die_above:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.away > 0:
            self.away -= 1
            raise ConnectionResetError("no answer, as asked")
        return [self._row(image_id) for image_id in ids]

    def _row(self, image_id: str) -> dict[str, Any] | RowError:
        time.sleep(self.seconds)
        if image_id in self.raise_on:
            raise ValueError(f"cannot square {image_id}")
        if image_id in self.die_on and self._first_time(image_id):
            os.kill(os.getpid(), signal.SIGKILL)
        if image_id in self.hang_on and self._first_time(image_id):
            time.sleep(3600)
        if image_id in self.refuse:
            return RowError(image_id, "refused", "as asked")
        return {"image_id": image_id, "square": int(image_id.partition("-")[2]) ** 2}

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        if self.broken_commits > 0:
            self.broken_commits -= 1
            raise StoreError("the disk is full, as asked")
        part = {"rows": rows, "failures": [asdict(failure) for failure in failures]}
        temporary = Path(self.folder) / f".part-{unit.index}-{os.getpid()}"
        temporary.write_text(json.dumps(part))
        temporary.replace(Path(self.folder) / f"part-{unit.index}.json")
        with open(Path(self.folder) / "commits", "a") as file:
            file.write(f"{unit.index}\n")
        return {"threads": os.environ.get("OMP_NUM_THREADS", "")}

    def _first_time(self, image_id: str) -> bool:
        marker = Path(self.folder) / f"met-{image_id}"
        known = marker.exists()
        marker.touch()
        return not (known and self.once)


@dataclass
class StoringWorker(FolderWorker):
    """Its parts go into a collection ``squares/a`` of the store at ``url``."""

    url: str = ""

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        collection = open_store(self.url).collection("squares", "a")
        table = pa.table(
            {"image_id": pa.array([row["image_id"] for row in rows], pa.string()), "png": [b""] * len(rows)},
            pa.schema([("image_id", pa.string()), ("png", pa.binary())]),
        )
        collection.write_part(unit.index, table, failures, dict.fromkeys(unit.ids, 0.0))
        return super().commit(unit, rows, failures)


def broken_factory(error: Exception) -> FolderWorker:
    """A factory that cannot build its worker."""
    raise error


def units_of(count: int, size: int) -> list[Unit]:
    ids = [f"img-{i}" for i in range(count)]
    return [Unit(index=i // size, ids=tuple(ids[i : i + size])) for i in range(0, count, size)]


def parts(folder: Path) -> tuple[dict[str, int], dict[str, RowError]]:
    """What is committed: squares, and errors."""
    contents = [json.loads(path.read_text()) for path in folder.glob("part-*.json")]
    rows = {row["image_id"]: row["square"] for part in contents for row in part["rows"]}
    return rows, {f["image_id"]: RowError(**f) for part in contents for f in part["failures"]}


def commits(folder: Path) -> list[int]:
    """Indexes of the committed units, one entry per commit."""
    return sorted(int(line) for line in (folder / "commits").read_text().split())


def calls(folder: Path) -> list[list[str]]:
    """The ids of every call of ``process``."""
    return [json.loads(line)["ids"] for line in (folder / "calls").read_text().splitlines()]
