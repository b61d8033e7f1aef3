"""``InvertWorker``: reads images, inverts them, and writes their rows."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from ganinv.codes.code import Code
from ganinv.data import LoadedBatch
from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.data.values import class_numbers, read_values
from ganinv.errors import DataError, NotFinite
from ganinv.frames import sequence_of
from ganinv.generators.channels import as_channels
from ganinv.generators.files import open_generator
from ganinv.methods.base import Inverter
from ganinv.records import CodeReader
from ganinv.records.verify import Measured, Record, verified
from ganinv.stages.method import Inversion, MethodConfig, method_config, open_method
from ganinv.store import RowError, Unit, open_store
from ganinv.target import Target
from ganinv.transfer import Sender, Sent
from tasks.engine import default_device
from tasks.inverters import open_named
from tasks.records import Measurer, records_table
from tasks.steps.invert_job import InvertJob

_log = logging.getLogger("ganinv.tasks")


@dataclass(frozen=True)
class _Row:
    image_id: str
    record: Record
    source_uri: str
    source_sha256: str
    mse: float | None
    distance: float | None
    plain: Mapping[str, float]
    loss: list[float]
    steps: int
    stop_reason: str
    seconds: float
    passes: np.ndarray | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)


class InvertWorker:
    """Holds generator and method; reads, inverts and writes its units. ``method``: as it was planned, by default the job's.

    Attributes:
        columns: what a step that does more writes besides, from ``_beside``: name -> type.
    """

    columns: ClassVar[Mapping[str, pa.DataType]] = {}

    def __init__(self, job: InvertJob, method: MethodConfig | None = None) -> None:
        self.job = job
        self.collection = open_store(job.store).latents[job.collection_name]
        self.generator = open_generator(job.generator, default_device())
        planned = method or method_config(job.method, **job.overrides)
        self.method = open_method(planned, self.generator, open_inverter=self._open_inverter, seed=job.seed)
        self.photo_side, self.nearest = self.method.photo_side, self.method.reads == "labels"
        self.index = SourceIndex(Place(job.dataset.url), self.collection.objects, self.collection.path)
        self.measurer = Measurer(self.generator, self.method.cfg.distance, self.method.cfg.lanes)
        # A device computes faster than one core decodes.
        self.readers = torch.get_num_threads() if self.generator.device.type == "cuda" else 1
        self.sender, self._sent = Sender(self.generator.device), dict[int, Sent]()
        self.begun: CodeReader | None = None
        if job.start is not None:
            store = open_store(job.store)
            self.begun = job.reader(store, store.latents[job.start], self.generator)
        self._planned: set[str] | None = None
        self._ignored: Counter[str] = Counter()  # of the files of this unit

    def _begun(self, reader: CodeReader, loaded: LoadedBatch) -> dict[str, Code]:
        """The stored codes of some images; not those of another image that had the same id then."""
        ids, now = loaded.ids, dict(zip(loaded.ids, loaded.sha256, strict=True))
        found = dict[str, Code]()
        if self._planned is None:
            self._planned = {image_id for unit in reader.collection.plan().units for image_id in unit.ids}
        for batch in reader.collection.scan(ids=[i for i in ids if i in self._planned], batch_size=16):
            table = pa.Table.from_batches([batch])
            if "source_sha256" in table.schema.names:
                rows = zip(table["image_id"].to_pylist(), table["source_sha256"].to_pylist(), strict=True)
                table = table.filter(pa.array([digest in (None, now[i]) for i, digest in rows], pa.bool_()))
            if not table.num_rows:
                continue
            code = reader.codes(table)
            found |= {image_id: code[k] for k, image_id in enumerate(table["image_id"].to_pylist())}
        return found

    def _open_inverter(self, name: str) -> Inverter:
        return open_named(self.job, name, self.generator)

    def process(self, ids: Sequence[str]) -> list[Any]:
        if self.method.cfg.of_frames and (lacking := self._lacking(ids)):
            return [RowError(i, "apart", lacking) for i in ids]
        started, rows = time.perf_counter(), list[Any]()
        for loaded in self._loaded(ids):
            rows += loaded.errors
            self._ignored.update(loaded.ignored)
            if self.method.cfg.of_frames and len(set(loaded.sizes)) > 1:
                _log.warning(
                    "frames of %s have %d sizes, such as %dx%d and %dx%d: each is cut to its middle square, and a face jumps "
                    "where the size changes. Align them (ganinv align), or put each size into a folder of its own",
                    *(sequence_of(loaded.ids[0]) or "the folder", len(set(loaded.sizes))),
                    *(side for size in sorted(set(loaded.sizes))[:2] for side in size),
                )
            if loaded.ids:
                rows += self._inverted(loaded, started)
            started = time.perf_counter()
        self._sent.clear()  # of batches without a readable image
        return rows

    def _lacking(self, ids: Sequence[str]) -> str:
        """Why frames cannot be inverted that come without the others of their video, as when they are tried again."""
        plan = self.collection.plan()
        wanted = len(plan.units[next(iter(plan.by_unit(ids[:1])[0]))].ids)
        if len(ids) == wanted:
            return ""
        return (
            f"it came with {len(ids)} of the {wanted} frames of its video: it failed or changed since, or all of them were too "
            "much for a worker. Frames that share a generator are inverted together: run it under another name (--name), in "
            "shorter scenes where memory was short"
        )

    def _loaded(self, ids: Sequence[str]) -> Iterator[LoadedBatch]:
        """The images, batch by batch; of a method of a single pass the next are read and decoded meanwhile."""
        cfg = self.method.cfg
        size = max(cfg.lanes, 16) if cfg.single_pass and not cfg.of_frames else len(ids)
        batches = (ids[first : first + size] for first in range(0, len(ids), size))
        with ThreadPoolExecutor(self.readers) as pool:
            ahead = deque(pool.submit(self._load, batch) for batch in islice(batches, self.readers))
            while ahead:
                loaded = ahead.popleft().result()
                ahead.extend(pool.submit(self._load, batch) for batch in islice(batches, 1))
                yield loaded

    def _load(self, ids: Sequence[str]) -> LoadedBatch:
        loaded = self.index.load(ids, self.generator.resolution, nearest=self.nearest)
        channels, photos = self.generator.img_channels, None
        if self.photo_side is not None:
            larger = self.index.load(loaded.ids, self.photo_side, nearest=self.nearest)
            if (
                larger.ids != loaded.ids
            ):  # an image went in this moment: the unit is tried again, and then it is an error
                raise DataError(f"{larger.errors[0].image_id}: {larger.errors[0].message}")
            photos = as_channels(larger.images, channels)
        images = as_channels(loaded.images, channels)
        self._sent[id(images)] = self.sender.send(images)  # on its way while the batch before it is computed
        return replace(loaded, images=images, photos=photos)

    def _inverted(self, loaded: LoadedBatch, started: float) -> list[Any]:
        images = loaded.images
        sent = self._sent.pop(id(images), None)
        loaded, target, rows = self._target(loaded)
        if sent is not None and target.images is images:  # as they were read: a step that does more may change them
            target = replace(target, images=sent.arrived())
        if not loaded.ids:
            return rows
        start = None
        if self.begun is not None:
            begun = self._begun(self.begun, loaded)
            missing = [i for i in loaded.ids if i not in begun]
            rows += [RowError(i, "no_start", f"latents {self.job.start!r} have no code of this image") for i in missing]
            there = [k for k, i in enumerate(loaded.ids) if i in begun]
            if not there:
                return rows
            target = target.some(there)
            start = Code.cat([begun[i] for i in target.ids])
        inversion = self.method.invert(target, start, measure=self.job.measure)
        seconds = (time.perf_counter() - started) / len(loaded.ids)
        unknown: list[Any] = [None] * len(inversion.ids)
        measured = inversion.metrics or {"mse": unknown, "distance": unknown}
        sources = self.index.dataset(loaded.ids).sources
        place = {image_id: k for k, image_id in enumerate(loaded.ids)}
        beside = self._beside(target, inversion.code)
        records = self._records(target, inversion)
        for k, image_id in enumerate(inversion.ids):
            record = records.get(k)
            if not isinstance(record, Record):
                rows.append(RowError(image_id, "not_finite", str(record or inversion.error[k])))
                continue
            rows.append(
                _Row(
                    image_id=image_id,
                    record=record,
                    source_uri=sources[image_id].uri,
                    source_sha256=loaded.sha256[place[image_id]],
                    mse=measured["mse"][k],
                    distance=measured["distance"][k],
                    plain={name: v[k] for name, v in measured.items() if name.endswith("_plain")},
                    loss=inversion.loss[k],
                    steps=inversion.steps[k],
                    stop_reason=inversion.stop_reason[k],
                    seconds=seconds,
                    passes=None if inversion.passes is None else inversion.passes[k].cpu().numpy(),
                    beside=beside[k],
                )
            )
        return rows

    def _records(self, target: Target, inversion: Inversion) -> dict[int, Record | NotFinite]:
        """By position: how each code that is finite will be stored."""
        good = [k for k, error in enumerate(inversion.error) if error is None]
        code, found = inversion.code.to("cpu"), inversion.metrics
        measured = [(found["mse"][k], found["distance"][k]) if found else None for k in good]

        def measure(some: Code, which: Sequence[int]) -> list[Measured]:
            places = [good[k] for k in which]
            return self.measurer(some, target.images[places], None if target.masks is None else target.masks[places])

        return dict(zip(good, verified([code[k] for k in good], measured, self.job.record, measure), strict=True))

    def _target(self, loaded: LoadedBatch) -> tuple[LoadedBatch, Target, list[Any]]:
        """What is inverted of the images that were read, and an error for each of the others."""
        if self.job.class_column is not None:
            return self._classed(loaded, self.job.class_column)
        return loaded, Target(loaded.images, loaded.ids, photos=loaded.photos), []

    def _beside(self, target: Target, code: Code) -> Sequence[Mapping[str, Any]]:
        """The values of ``columns``, for each image of the target."""
        return [{}] * len(target)

    def _classed(self, loaded: LoadedBatch, column: str) -> tuple[LoadedBatch, Target, list[Any]]:
        """The images that have a class, and an error for each of the others."""
        known, count = self.index.dataset(loaded.ids), self.generator.c_dim
        values = read_values(known.place, known.sources, column)
        classes = class_numbers(values, loaded.ids, count)
        errors = [
            RowError(i, "no_class", f"{column} is {values.get(i)!r:.60}, expected a class from 0 to {count - 1}")
            for i in loaded.ids
            if i not in classes
        ]
        keep = [k for k, i in enumerate(loaded.ids) if i in classes]
        ids = [loaded.ids[k] for k in keep]
        sha256 = [loaded.sha256[k] for k in keep]
        photos = None if loaded.photos is None else loaded.photos[keep]
        some = replace(loaded, images=loaded.images[keep], ids=ids, sha256=sha256, errors=[], photos=photos)
        numbers = torch.tensor([classes[i] for i in ids])
        return some, Target(some.images, ids, classes=numbers, photos=photos), errors

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row.image_id)
        table = records_table([r.image_id for r in rows], [r.record for r in rows], self.collection, self.generator)
        columns = {
            "source_uri": pa.array([r.source_uri for r in rows], pa.string()),
            "source_sha256": pa.array([r.source_sha256 for r in rows], pa.string()),
            "space": pa.array([self.method.cfg.space] * len(rows), pa.string()),
            "mse": pa.array([r.mse for r in rows], pa.float32()),
            "distance": pa.array([r.distance for r in rows], pa.float32()),
            "steps": pa.array([r.steps for r in rows], pa.int32()),
            "stop_reason": pa.array([r.stop_reason for r in rows], pa.string()),
            "loss": pa.array([r.loss for r in rows], pa.list_(pa.float32())),
        }
        for name in sorted({name for row in rows for name in row.plain}):  # of codes with noise maps: without them
            columns[name] = pa.array([row.plain.get(name) for row in rows], pa.float32())
        if passes := [row.passes for row in rows if row.passes is not None]:
            columns["w_passes"] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(passes))
        for name, kind in self.columns.items():
            columns[name] = pa.array([row.beside[name] for row in rows], kind)
        for name, column in columns.items():
            table = table.append_column(name, column)
        seconds = {row.image_id: row.seconds for row in rows}
        self.collection.write_part(unit.index, table, failures, seconds)
        errors = [r.mse for r in rows if r.mse is not None]
        ignored, self._ignored = dict(self._ignored), Counter()
        return {"mse": float(np.mean(errors)) if errors else None} | ({"ignored": ignored} if ignored else {})
