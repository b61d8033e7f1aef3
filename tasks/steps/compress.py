"""``compress``: store inversions again in a smaller form. The source collection is left as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator
from torch import Tensor

from ganinv.config import StrictModel, reread
from ganinv.errors import ConfigError, NotFinite
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.losses.choosing import choose_distance
from ganinv.losses.distance import DistanceName, open_distance
from ganinv.records import RecordConfig
from ganinv.records.codes import read_extras
from ganinv.records.origin import handed_on
from ganinv.records.record import encode
from ganinv.records.verify import Candidates, Record, first_good
from ganinv.store import Collection, Plan, RowError, Unit, open_store
from tasks.codes import CodesJob
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.records import Measurer, load_sources, records_table
from tasks.sources import sources_of


class CompressJob(CodesJob):
    """Store ``latents/<latents>`` again as ``latents/<name>``.

    Args:
        record: the form. A record that would take more bytes than it did, or render worse by more than
            ``record.max_rise``, is copied as it was.
        distance: what "worse" is measured with; None takes the distance that the inversions were measured with.
    """

    store: str
    latents: str
    name: str
    record: RecordConfig = RecordConfig(form="low-rank")
    generator: str = EMBEDDED
    distance: DistanceName | None = None

    @model_validator(mode="after")
    def _elsewhere(self) -> CompressJob:
        if self.name == self.latents:
            raise ValueError(f"the compressed inversions need a name of their own, got {self.name!r} for both")
        return self


def run_compress(job: CompressJob, pools: Pools) -> dict[str, Any]:
    """Fill ``latents/<name>``. Returns counts, bytes and mean distances before and after."""
    store, generator = open_store(job.store), open_generator(job.generator)
    latents, target = store.latents[job.latents], store.latents[job.name]
    origin, planned = latents.provenance(), latents.plan()
    check_generator(origin, generator, f"latents {job.latents!r}")
    if "dataset" not in planned.config:
        raise ConfigError(
            f"latents {job.latents!r} do not say which images they are of, so what is lost cannot be measured: "
            "expected inversions that ganinv invert made"
        )
    distance = choose_distance(job.distance or origin.get("distance_name", "embedded"), generator)
    open_distance(distance, generator)
    config: dict[str, Any] = {key: planned.config[key] for key in ("dataset", "method") if key in planned.config}
    config |= {"latents": job.latents, "latents_digest": origin["config_digest"], "distance": distance}
    config["record"] = job.record.model_dump(mode="json")
    job.reader(store, latents, generator).check()
    more = {key: origin[key] for key in ("method", "seed") if key in origin} | handed_on(origin)
    more |= {"distance_name": distance, "latents": job.latents}
    good = set(latents.read(columns=["image_id"])["image_id"].to_pylist())
    size = max(len(unit.ids) for unit in planned.units)
    plan = Plan.of("compress", config, provenance(generator, **more), [i for i in planned.ids if i in good], size)
    spec = WorkerSpec(CompressWorker, {"job": job, "distance": distance})
    label, same = f"compress {job.latents}", partial(reread, _Planned)
    return run_units(target, plan, spec, pools, label, grows=True, reread=same, made_of=[latents]) | summary(target)


class _Planned(StrictModel):
    """What the configuration of a plan holds of today's models."""

    record: RecordConfig


def summary(collection: Collection) -> dict[str, Any]:
    """What a compressed collection saved, and what that cost."""
    columns = ["extras_bytes", "before_bytes", "stored_distance", "before_distance", "stored_form"]
    table = collection.read(columns)
    if not table.num_rows:
        return {}
    return {
        "bytes_before": pc.sum(table["before_bytes"]).as_py() or 0,
        "bytes_after": pc.sum(table["extras_bytes"]).as_py() or 0,
        "distance_before": round(pc.mean(table["before_distance"]).as_py(), 6),
        "distance_after": round(pc.mean(table["stored_distance"]).as_py(), 6),
        "forms": {
            form["values"] or "w alone": form["counts"] for form in pc.value_counts(table["stored_form"]).to_pylist()
        },
    }


@dataclass(frozen=True)
class _Row:
    """``source``: the row [1] that was compressed. ``distance``: of its rendering."""

    source: pa.Table
    record: Record
    distance: float

    @property
    def image_id(self) -> str:
        return str(self.source["image_id"][0].as_py())


class CompressWorker:
    """Reads records, makes them smaller, and keeps what still renders the image as well."""

    def __init__(self, job: CompressJob, distance: DistanceName) -> None:
        self.job = job
        self.store = open_store(job.store)
        self.latents = self.store.latents[job.latents]
        self.collection = self.store.latents[job.name]
        self.generator = open_generator(job.generator, default_device())
        self.reader = job.reader(self.store, self.latents, self.generator)
        self.measurer = Measurer(self.generator, distance)
        self.sources = sources_of(self.latents, self.store)

    def process(self, ids: Sequence[str]) -> list[Any]:
        images, table, errors = load_sources(self.sources, self.latents, ids, self.generator)
        rows: list[Any] = list(errors)
        for k, image_id in enumerate(table["image_id"].to_pylist()):
            try:
                rows.append(self._compressed(table.slice(k, 1), images[k : k + 1]))
            except NotFinite as error:
                rows.append(RowError(image_id, "not_finite", str(error)))
        return rows

    def _compressed(self, source: pa.Table, image: Tensor) -> _Row:
        code, extras, config = self.reader.codes(source), read_extras(source, 0, self.store), self.job.record
        ((mse, distance),) = self.measurer(code, image)
        if extras is None:
            return _Row(source, Record(code.w[0], None, None, mse, distance), distance)
        known = source["stored_form"][0].as_py()
        smaller = ((each.name, encode(code, each)) for each in config.and_safer())
        forms = chain((form for form in smaller if form[1] and len(form[1]) < len(extras)), [(known, extras)])
        candidates = Candidates(code, forms, config.limit(distance))
        records = first_good({0: candidates}, lambda some, _: self.measurer(some, image))
        return _Row(source, records[0], distance)

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row.image_id)
        records = [row.record for row in rows]
        table = records_table([row.image_id for row in rows], records, self.collection, self.generator)
        if rows:
            sources = pa.concat_tables([row.source for row in rows], promote_options="default")
            before = [row.source["extras_bytes"][0].as_py() for row in rows]
            table = table.append_column("before_bytes", pa.array(before, pa.int64()))
            table = table.append_column("before_distance", pa.array([row.distance for row in rows], pa.float32()))
            for name in sources.schema.names:
                if name not in table.schema.names:
                    table = table.append_column(name, sources[name])
        self.collection.write_part(unit.index, table, failures, {})
        return {}
