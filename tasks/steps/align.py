"""``align``: faces of photos as generators were trained on them, in units; every photo ends as rows or as an error."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from ganinv.config import StrictModel, reread
from ganinv.data import Dataset
from ganinv.data.dataset import Photo
from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.faces import Aligned, AnyDetector, FaceRefused, align
from ganinv.faces.aligning import SMALLEST, Which
from ganinv.faces.dlib68 import DlibConfig
from ganinv.faces.rows import Source, aligned_table
from ganinv.store import Collection, Plan, RowError, Store, Unit, open_store
from ganinv.version import code_version
from tasks.engine import Pools, run_units
from tasks.jobs.dataset import DatasetRef
from tasks.noted import Noted, Settlement, planned_place
from tasks.pool import WorkerSpec
from tasks.same_run import chosen_alike

KIND = "aligned"
MOST_IN_UNIT = 32
_log = logging.getLogger("ganinv.tasks")


class AlignJob(StrictModel):
    """Cut the faces of ``dataset`` out into ``aligned/<name>``, a data set for the steps after it.

    Args:
        detector: what finds them, of ``ganinv.faces.DETECTORS``, with its settings.
        faces: ``largest`` takes the largest face of each photo; ``all`` makes a row for each; ``single`` makes photos with
            several faces error rows.
        size: side of the crops, in pixels.
        smallest: minimum side of a crop, in pixels of the photo; photos with smaller faces become error rows.
        supersample: cut at this multiple of the size, then reduce. FFHQ itself was made with 4.
        changed: what to do with a photo whose content has changed since its rows were made: ``compute`` them again, or make it an
            ``error`` row.
    """

    store: str
    dataset: DatasetRef
    name: str = "faces"
    detector: AnyDetector = Field(default_factory=DlibConfig)
    faces: Which = "largest"
    size: int = Field(256, ge=16, le=4096)
    smallest: float = Field(SMALLEST, ge=2)
    supersample: int = Field(2, ge=1, le=8)
    unit_size: int | None = Field(None, ge=1)
    changed: Literal["compute", "error"] = "compute"


def aligned(store: Store, name: str) -> Collection:
    """The collection ``aligned/<name>``, whether it exists yet or not. Its URL is a data set."""
    return store.collection(KIND, name)


def run_align(job: AlignJob, pools: Pools) -> dict[str, Any]:
    """Fill ``aligned/<name>``. Returns counts and the collection's URL, which is a data set for ``invert``.

    Raises:
        ConfigError: the detector is not installed. DataError: nothing to read, or a table that cannot be used.
    """
    collection = aligned(open_store(job.store), job.name)
    dataset = job.dataset.open(Noted(collection)) if collection.exists() else job.dataset.open()
    for line in (dataset.left_out.line(), dataset.changes.line()):
        if line:
            _log.warning("%s", line)
    changes, left_out = dataset.changes, dataset.left_out.as_dict()
    plan, settlement = plan_align(job, dataset, collection), Settlement.of(dataset, collection)

    def prepare(whole: Plan) -> None:
        if len(dataset):
            settlement.write_new(dataset, collection, whole.ids)

    def settle(whole: Plan) -> list[str]:
        again = settlement.settle(dataset, collection, whole.ids, refuse=job.changed == "error")
        dataset.forget()
        return again

    spec = WorkerSpec(AlignWorker, {"job": job})
    label = f"align {plan.provenance['detector']}"
    result = run_units(
        collection, plan, spec, pools, label, gpu=False, grows=True, reread=_comparable, prepare=prepare, again=settle
    )
    settlement.settled(collection, refuse=job.changed == "error")
    return result | {"changed": len(changes.changed), "moved": len(changes.moved), "left_out": left_out}


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a plan as today's models read it, without what only chooses photos."""
    now = reread(AlignJob, config)
    return now | {"dataset": chosen_alike(now["dataset"])}


def plan_align(job: AlignJob, dataset: Dataset, collection: Collection) -> Plan:
    """Which photos, in which units, with which detector. ``collection``: the job's. Writes nothing."""
    detector = job.detector.open()
    config = job.model_dump(mode="json", exclude={"store", "name", "unit_size", "changed"})
    config["dataset"]["url"] = planned_place(collection, dataset, job.dataset.url)
    if digest := job.detector.digest():
        config["detector_file"] = digest
    origin = {"code_version": code_version(), "detector": detector.name, "detector_version": detector.version}
    unit_size = job.unit_size or max(1, min(MOST_IN_UNIT, len(dataset) // 8))
    return Plan.of("align", config, origin, dataset.ids, unit_size)


@dataclass(frozen=True)
class _Found:
    """One photo with its faces."""

    source: Source
    faces: Sequence[Aligned]
    seconds: float


class AlignWorker:
    """Holds a detector; reads photos, and cuts their faces out."""

    def __init__(self, job: AlignJob) -> None:
        self.job = job
        self.collection = aligned(open_store(job.store), job.name)
        self.index = SourceIndex(Place(job.dataset.url), self.collection.objects, self.collection.path)
        self.detector = job.detector.open()
        self._ignored: Counter[str] = Counter()

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows, sources = list[Any](), self.index.dataset(ids).sources
        started = time.perf_counter()
        for photo in self.index.photos(ids):
            rows.append(
                photo if isinstance(photo, RowError) else self._aligned(photo, sources[photo.image_id].uri, started)
            )
            started = time.perf_counter()
        return rows

    def _aligned(self, photo: Photo, uri: str, started: float) -> _Found | RowError:
        self._ignored.update(photo.ignored)
        job = self.job
        settings: dict[str, Any] = {"faces": job.faces, "smallest": job.smallest, "supersample": job.supersample}
        try:
            faces = align(photo.image, self.detector, size=job.size, image_id=photo.image_id, **settings)
        except FaceRefused as refused:
            return RowError(photo.image_id, refused.code, f"{uri}: {refused}")
        source = Source(photo.image_id, uri, photo.sha256, photo.image.size)
        return _Found(source, faces, time.perf_counter() - started)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row.source.image_id)
        table = aligned_table([(row.source, row.faces) for row in rows])
        self.collection.write_part(unit.index, table, failures, {row.source.image_id: row.seconds for row in rows})
        ignored, self._ignored = dict(self._ignored), Counter()
        return {"ignored": ignored} if ignored else {}
