"""``invert``: a data set with a method, in units of fixed membership; every image ends as a row or as an error."""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import Any

from ganinv.config import validate
from ganinv.data import Dataset
from ganinv.data.values import read_values
from ganinv.errors import ConfigError
from ganinv.frames import sequence_of
from ganinv.generators.channels import CHANNELS
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.choosing import chosen
from ganinv.methods.base import hashing_once
from ganinv.records.origin import inverters_origin
from ganinv.stages.checking import check_method
from ganinv.stages.method import Method, MethodConfig, method_config, open_method
from ganinv.store import Collection, Plan, open_store
from tasks.compiling import decide
from tasks.engine import Pools, provenance, run_units
from tasks.estimate import estimate, little
from tasks.framing import FaceLook
from tasks.generator_check import check_generator
from tasks.inverters import open_named
from tasks.noted import Noted, Settlement, planned_place
from tasks.pool import WorkerSpec
from tasks.same_run import comparable
from tasks.steps.invert_job import InvertJob
from tasks.steps.invert_worker import InvertWorker

_log = logging.getLogger("ganinv.tasks")

MANY_UNITS = 64
"""A data set is divided into at least this many units before units get larger, so that every worker gets some."""
BATCHES_PER_UNIT = 8
"""Of a method of a single pass: reading runs ahead of computing within a unit, and objects stay few."""
MOST_UNITS = 20_000
"""Of a method of a single pass, before units grow again: the driver can follow some hundred units a second (docs/scale.md)."""
MOST_FRAMES = 512
"""Of a method that inverts the frames of a video together: they are in one worker's memory, with their features."""


def run_invert(
    job: InvertJob,
    pools: Pools,
    plan: Plan | None = None,
    dataset: Dataset | None = None,
    worker: type[InvertWorker] | None = None,
) -> dict[str, Any]:
    """Fill ``latents/<name>``. Returns counts and the collection's URL. ``plan`` and ``dataset``: of :func:`plan_invert`, if
    they were made. The data set is empty afterwards. ``worker``: what does it, of a step that does more."""
    collection = open_store(job.store).latents[job.collection_name]
    dataset = dataset or list_images(job, collection)
    plan = plan or plan_invert(job, dataset, collection)
    cost = cache(partial(estimate, open_store(job.store), collection, plan, pools.engine))
    if not collection.exists():
        plan = decide(plan, cost, pools.engine)
    # As planned: what `auto` is may be another distance on another machine.
    method = validate(MethodConfig, plan.config["method"], "plan")
    spec = WorkerSpec(worker or InvertWorker, {"job": job, "method": method})
    changes, left_out, by_reason = dataset.changes, dataset.left_out.as_dict(), dataset.left_out.by_reason()
    settlement, look = Settlement.of(dataset, collection), FaceLook()

    def prepare(whole: Plan) -> None:
        if len(dataset):
            settlement.write_new(dataset, collection, whole.ids)

    def settle(whole: Plan) -> list[str]:
        again = settlement.settle(dataset, collection, whole.ids, refuse=job.changed == "error")
        if again or len(collection.done()) < len(whole.units):
            look.begin(dataset, job.generator)
        dataset.forget()  # not needed in this process any more, and the run may take days
        return again

    label = f"invert {plan.provenance['method']}"
    result = run_units(
        collection,
        plan,
        spec,
        pools,
        label,
        grows=not method.of_frames,
        reread=comparable,
        prepare=prepare,
        again=settle,
        left_out=by_reason,
        little=little(cost, pools.engine),
        watcher=look,
    )
    settlement.settled(collection, refuse=job.changed == "error")
    look.wait()
    return result | {"changed": len(changes.changed), "moved": len(changes.moved), "left_out": left_out}


def list_images(job: InvertJob, collection: Collection | None = None) -> Dataset:
    """The data set, listed, with the ids that an earlier run of this job gave. A million files take a while, so what is quick to
    refuse is refused before. ``collection``: see :func:`plan_invert`."""
    method_config(job.method, **job.overrides)
    collection = collection or open_store(job.store).latents[job.collection_name]
    dataset = job.dataset.open(Noted(collection)) if collection.exists() else job.dataset.open()
    for line in (dataset.left_out.line(), dataset.changes.line()):
        if line:
            _log.warning("%s", line)
    return dataset


@hashing_once()
def plan_invert(job: InvertJob, dataset: Dataset | None = None, collection: Collection | None = None) -> Plan:
    """Which images, in which units, with which configuration. Lists the data set if it was not, writes nothing.

    Args:
        collection: the job's, if it was opened, so that the plan of an earlier run is read once: it has all ids.
    """
    store, begun = open_store(job.store), None
    collection = collection or store.latents[job.collection_name]
    generator = open_generator(job.generator)
    method = _opened(job, generator, collection)
    check_method(method, begun=job.start is not None, measure=job.measure)
    if generator.img_channels != 3:
        _log.warning("images are made %s, as generator %s makes them", CHANNELS[generator.img_channels], generator.name)
    dataset = dataset or list_images(job, collection)
    config: dict[str, Any] = {
        "dataset": job.dataset.model_dump(mode="json"),
        "method": method.cfg.model_dump(mode="json"),
        "generator": generator.fingerprint,
        "seed": job.seed,
        "record": job.record.model_dump(mode="json"),
        "measure": job.measure,
    }
    config["dataset"]["url"] = planned_place(collection, dataset, job.dataset.url)
    if job.start is not None:
        latents = store.latents[job.start]
        begun = latents.provenance()
        check_generator(begun, generator, f"latents {job.start!r}")
        job.reader(store, latents, generator).check()
        config["start"] = {"latents": job.start, "config": latents.plan().config_digest}
    if job.class_column is not None:
        if not generator.c_dim:
            raise ConfigError(f"generator {generator.name!r} is not conditional: omit --class-column")
        read_values(dataset.place, {i: dataset.sources[i] for i in dataset.ids[:1]}, job.class_column)
        config["class_column"] = job.class_column
    origin: dict[str, Any] = {"method": method.cfg.name, "distance_name": method.cfg.distance, "seed": job.seed}
    opened = {name: method.context.inverter(name) for name in method.cfg.inverters}
    prints = {name: inverter.fingerprint for name, inverter in opened.items()}
    if prints:
        config["encoders"] = prints
    origin |= inverters_origin(opened, method.cfg.stages, store, begun)
    config |= job.beside()
    about = "invert", config, provenance(generator, **origin), dataset.ids
    if method.cfg.of_frames:
        return Plan.of(*about, job.unit_size or MOST_FRAMES, sequence_of)
    return Plan.of(*about, job.unit_size or shard_size(method.cfg, len(dataset)))


def _opened(job: InvertJob, generator: Generator, collection: Collection) -> Method:
    """The method, with its distances chosen for this generator and what is installed here."""
    plain = method_config(job.method, **job.overrides).model_dump(mode="json")
    picked = chosen(plain, generator)
    if collection.exists():  # a run continues as it began, even on another machine
        begun = collection.plan().config.get("method", {})
        if not job.measure:  # then it does not matter what a result would be measured with
            picked["distance"] = begun.get("distance", plain["distance"])
        if plain["precision"] == "auto":
            picked["precision"] = begun.get("precision", "float32")
        if plain["compiled"] is None:
            picked["compiled"] = begun.get("compiled")
    elif not job.measure:
        picked["distance"] = plain["distance"]
    cfg = validate(MethodConfig, picked, f"method {plain['name']}")
    return open_method(cfg, generator, open_inverter=lambda name: open_named(job, name, generator), seed=job.seed)


def shard_size(method: MethodConfig, images: int) -> int:
    """Images per unit: what is worked on at once, and of a single pass several such batches where there are many images."""
    batch = max(method.lanes, 16)
    if not method.single_pass:
        return batch
    several = max(1, min(BATCHES_PER_UNIT, images // (MANY_UNITS * batch)))
    return batch * max(several, -(-images // (MOST_UNITS * batch)))
