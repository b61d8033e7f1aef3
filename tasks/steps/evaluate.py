"""``evaluate``: measure inversions and edits by a fixed protocol, which is stored with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from ganinv.config import StrictModel, reread
from ganinv.errors import DataError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.labels import open_labeller
from ganinv.losses.choosing import choose_distance
from ganinv.losses.distance import DistanceName, between, open_distance
from ganinv.metrics import EvaluationProtocol, evaluate_edit, evaluate_inversion
from ganinv.metrics.protocol import MEASURES_SINCE, prepare
from ganinv.metrics.similarity import open_similarity
from ganinv.store import Plan, RowError, Unit, open_store
from tasks.codes import CodesJob
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import Worker, WorkerSpec
from tasks.records import load_sources
from tasks.sources import sources_of
from tasks.steps.flicker import FLICKER, run_flicker


class EvaluateJob(CodesJob):
    """Evaluate ``latents/<latents>`` against their sources into ``metrics/<latents>``, and, when ``edits`` is given,
    ``edits/<edits>`` into ``edit-metrics/<edits>``.

    Args:
        frames: the images in each folder are frames of a video: also measure how much they change from one frame to the next,
            beside their sources, into ``flicker/<latents>`` and ``edit-flicker/<edits>`` (``ganinv.metrics.flicker``).
        similarity: also measure the similarity of edited images to the source and to the inversion, by ``embedded`` or the
            file of a face network (``ganinv.metrics.similarity``). This reads the sources again.
    """

    store: str
    latents: str
    edits: str | None = None
    generator: str = EMBEDDED
    labeller: str = "portraits-64"
    distance: DistanceName = "embedded"
    similarity: str | None = None
    frames: bool = False


def run_evaluate(job: EvaluateJob, pools: Pools) -> dict[str, Any]:
    """Fill the metrics tables. Returns counts per table; of frames also ``flicker``, of edits by edit and strength."""
    store, generator, labeller = open_store(job.store), open_generator(job.generator), open_labeller(job.labeller)
    distance = choose_distance(job.distance, generator)
    open_distance(distance, generator)
    protocol = EvaluationProtocol(distance=distance, labeller=labeller.identity, code_version=MEASURES_SINCE)
    results = {}
    for kind, name in (("latents", job.latents), ("edits", job.edits)):
        if name is None:
            continue
        source = store.collection(kind, name)
        origin = source.provenance()
        check_generator(origin, generator, f"{kind} {name!r}")
        job.reader(store, source, generator).check()
        config = {"source_digest": origin["config_digest"], "protocol": protocol.model_dump(mode="json")}
        more = {
            "protocol": protocol.model_dump(mode="json"),
            "protocol_digest": protocol.digest,
            "labeller": labeller.identity,
            "distance_name": distance,
            "method": origin.get("method"),
        }
        if kind == "edits":
            config["similarity"] = job.similarity
            if job.similarity is not None:
                more["similarity_name"] = open_similarity(job.similarity, generator).name
        planned = source.plan()
        good = set(source.read(columns=["image_id"])["image_id"].to_pylist())
        size = max(len(unit.ids) for unit in planned.units)
        plan = Plan.of("evaluate", config, provenance(generator, **more), [i for i in planned.ids if i in good], size)
        target = store.collection(METRICS[kind], name)
        workers: dict[str, Callable[..., Worker]] = {"latents": InversionWorker, "edits": EditMetricsWorker}
        spec = WorkerSpec(workers[kind], {"job": job, "protocol": protocol})
        results[kind] = run_units(
            target,
            plan,
            spec,
            pools,
            f"evaluate {name}",
            grows=True,
            reread=partial(reread, _Planned),
            made_of=[source],
        )
        if job.frames:
            results[FLICKER[kind]] = run_flicker(job, pools, kind, name)
    return results


class _Planned(StrictModel):
    """What the configuration of a plan holds of today's models."""

    protocol: EvaluationProtocol


METRICS = {"latents": "metrics", "edits": "edit-metrics"}


class InversionWorker:
    """Renders inversions and compares them with their sources, which are read again and must be the same bytes."""

    def __init__(self, job: EvaluateJob, protocol: EvaluationProtocol) -> None:
        self.protocol = protocol
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.collection = self.store.metrics[job.latents]
        self.generator = open_generator(job.generator, default_device())
        self.labeller = open_labeller(job.labeller).to(self.generator.device)
        self.distance = open_distance(protocol.distance, self.generator)  # as planned
        self.reader = job.reader(self.store, self.latents, self.generator)
        self.sources = sources_of(self.latents, self.store)

    def process(self, ids: Sequence[str]) -> list[Any]:
        images, table, errors = load_sources(self.sources, self.latents, ids, self.generator)
        rows: list[Any] = list(errors)
        if not table.num_rows:
            return rows
        code = self.reader.codes(table).to(self.generator.device)
        sources = images.to(self.generator.device)
        values = evaluate_inversion(sources, self.generator.render(code), self._distance, self.labeller, self.protocol)
        rows += [
            (image_id, {k: float(v[n]) for k, v in values.items()})
            for n, image_id in enumerate(table["image_id"].to_pylist())
        ]
        return rows

    def _distance(self, a: Any, b: Any) -> Any:
        return between(self.distance.features(a), self.distance.features(b))

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        _write(self.collection, unit, [(i, {}, v) for i, v in rows], failures)
        return {}


class EditMetricsWorker:
    """Renders edited latents beside the unedited ones and scores both."""

    def __init__(self, job: EvaluateJob, protocol: EvaluationProtocol) -> None:
        assert job.edits is not None
        self.protocol = protocol
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.edits = self.store.edits[job.edits]
        self.collection = self.store.collection("edit-metrics", job.edits)
        self.generator = open_generator(job.generator, default_device())
        self.labeller = open_labeller(job.labeller).to(self.generator.device)
        self.reader = job.reader(self.store, self.latents, self.generator)
        self.edited = job.reader(self.store, self.edits, self.generator)
        self.similarity = None if job.similarity is None else open_similarity(job.similarity, self.generator)
        if self.similarity is not None:
            self.sources = sources_of(self.latents, self.store)

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        sources: dict[str, Tensor] = {}
        if self.similarity is not None:
            images, table, errors = load_sources(self.sources, self.latents, ids, self.generator)
            sources = dict(zip(table["image_id"].to_pylist(), images.to(self.generator.device), strict=True))
            rows, ids = list(errors), list(sources)
        for image_id in ids:
            edited = self.edits.read(ids=[image_id])
            original = self.reader.codes(self.latents.read(ids=[image_id]))
            images = self.generator.render(self.edited.codes(edited).to(self.generator.device))
            before = self.generator.render(original.to(self.generator.device)).expand_as(images)
            values = evaluate_edit(before, images, self.labeller, self.protocol)
            if self.similarity is not None:
                of = {"source": sources[image_id].expand_as(images), "inversion": before}
                likeness = {f"similarity_to_{name}": self._similarity(images, other) for name, other in of.items()}
                values |= {name: value.cpu().numpy() for name, value in likeness.items()}
            keys = zip(edited["edit"].to_pylist(), edited["strength"].to_pylist(), strict=True)
            rows.append(
                (image_id, [(e, s, {k: float(v[n]) for k, v in values.items()}) for n, (e, s) in enumerate(keys)])
            )
        return rows

    def _similarity(self, images: Tensor, others: Tensor) -> Tensor:
        assert self.similarity is not None
        return self.similarity(prepare(images, self.protocol), prepare(others, self.protocol))

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        flat = [(i, {"edit": e, "strength": s}, values) for i, edits in rows for e, s, values in edits]
        _write(self.collection, unit, flat, failures)
        return {}


def _write(collection: Any, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> None:
    if not rows and not failures:
        raise DataError(f"unit {unit.index} has no images")
    rows.sort(key=lambda row: row[0])
    keys: dict[str, pa.DataType] = {"edit": pa.string(), "strength": pa.float32()}
    columns: dict[str, Any] = {"image_id": pa.array([row[0] for row in rows], pa.string())}
    for key in rows[0][1] if rows else ():
        columns[key] = pa.array([row[1][key] for row in rows], keys[key])
    for name in rows[0][2] if rows else ():
        columns[name] = pa.array(np.array([row[2][name] for row in rows], np.float32))
    collection.write_part(unit.index, pa.table(columns), failures, {})
