"""``train``: run any recipe, with a checkpoint every few steps, in this process or as workers of a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from ganinv.config import StrictModel, digest, reread
from ganinv.data.dataset import Dataset
from ganinv.data.decode import ImageRefused, decode_image
from ganinv.data.index import write_index
from ganinv.errors import ConfigError, DataError
from ganinv.methods.registry import PRODUCTS, AnyRecipe
from ganinv.store import Collection, Plan, Store, open_store
from ganinv.training.masks import StoredMasks, open_masks
from tasks.engine import Engine, Pools, Watcher, default_device, provenance
from tasks.jobs.dataset import DatasetRef
from tasks.outcome import take_back
from tasks.pool import RunStopped, RunSummary, UnitReport
from tasks.pool.contract import Place
from tasks.pool.inline import InlinePool
from tasks.pool.progress import ProgressLine
from tasks.steps.train_job import TrainJob
from tasks.summary import Tally, summarised
from tasks.training import Stretch, TrainingWorker, stretch_id

_log = logging.getLogger("ganinv.tasks")

LOOKED_AT = 8  # images whose sizes are looked at before a training


def run_train(job: TrainJob, pools: Pools) -> dict[str, Any]:
    """Train and save what the recipe makes: the best of the validations, an inverter as ``encoders/<name>``, where methods find
    it, a generator as ``generators/<name>``.

    ``training/<name>`` holds the losses of every step, the last checkpoints, pictures of held-out images beside their
    reconstructions, and TensorBoard files. Run again, it resumes from the last checkpoint.
    """
    store = open_store(job.store)
    collection = store.collection("training", job.collection_name)
    plan, dataset = _plan(job), None if job.dataset is None else job.dataset.open()
    on_ray = _on_ray(job, pools.engine)
    place = replace(pools.get(sequential=True).place, slots=job.workers) if on_ray else InlinePool().place
    if not collection.exists():
        plan = plan.model_copy(update={"begun_on": place.as_dict()})
    plan = collection.start(plan, reread=_compared)
    if dataset is not None:
        write_index(dataset, collection.objects, collection.path, dataset.ids)
        dataset.forget()
    left = [unit for unit in plan.units if unit.index not in collection.done()]
    if left:
        try:
            _train(job, pools, collection, len(left), place, on_ray)
        except RunStopped:
            raise
        except Exception:
            if not collection.done():
                take_back(collection)
            raise
    _publish(collection, store, job)
    manifest = collection.manifest() or collection.finish(plan)
    return {
        "collection": f"{collection.kind}/{collection.name}",
        "url": collection.url,
        "steps": manifest.rows,
        "units_computed": len(left),
        PRODUCTS[job.recipe.makes].noun: job.made_url,
    }


def _plan(job: TrainJob) -> Plan:
    recipe = job.recipe
    given = PRODUCTS[recipe.makes]().open(job.places, "cpu")
    recipe.learner(given)  # what does not fit is refused before anything is written
    fingerprints = dict(given.fingerprints)
    config: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "start": fingerprints.pop("start", None),
        "needed": fingerprints,
        "workers": job.workers,
        "dataset": None,
    }
    if job.dataset is not None:  # on other images it is another training, and half of one would mix both
        dataset = job.dataset.open()
        ids = dataset.ids
        if not ids:
            raise DataError(f"{job.dataset.url} has no images: training needs some, or no data set at all")
        if recipe.data.masks is not None and isinstance(masks := open_masks(recipe.data.masks), StoredMasks):
            masks.check(ids)
        config |= {"dataset": job.dataset.model_dump(mode="json"), "images": digest(ids)}
        recipe.check_images(len(ids), lambda: _sides(dataset, ids[:LOOKED_AT]))
        if len(ids) < recipe.batch_size:
            _log.warning(
                "%s has %d images, fewer than a batch of %d: each is seen several times in one, and soon known by heart",
                job.dataset.url,
                len(ids),
                recipe.batch_size,
            )
    else:
        recipe.check_images(None)
    every = recipe.checkpoint_every
    stretches = [stretch_id(first, min(first + every - 1, recipe.steps)) for first in range(1, recipe.steps + 1, every)]
    noun = PRODUCTS[recipe.makes].noun
    origin = provenance(given.generator, **{noun: job.collection_name}, recipe=recipe.kind, seed=recipe.seed)
    return Plan.of("train", config, origin, stretches, 1)


def _sides(dataset: Dataset, ids: Sequence[str]) -> list[int]:
    """The smaller sides, in pixels, of those that can be read."""
    found = []
    for image_id in ids:
        with suppress(ImageRefused):
            found.append(min(decode_image(dataset.read(image_id)).size))
    return found


class _Planned(StrictModel):
    """What the configuration of a plan holds of today's models."""

    recipe: AnyRecipe
    dataset: DatasetRef | None = None


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return reread(_Planned, config)


def _on_ray(job: TrainJob, engine: Engine) -> bool:
    """Where it runs: one worker needs no process of its own, unless it is asked for or a cluster is there."""
    if engine.kind == "inline" and job.workers > 1:
        raise ConfigError(f"{job.workers} workers need processes of their own: train with --engine ray")
    return engine.kind == "ray" or (engine.kind == "auto" and (job.workers > 1 or "RAY_ADDRESS" in os.environ))


def _train(job: TrainJob, pools: Pools, collection: Collection, left: int, place: Place, on_ray: bool) -> None:
    """The stretches that are left."""
    pools.release()
    tally = Tally(left, place)
    with ExitStack() as stack:
        watchers: list[Watcher] = [tally]
        if pools.watch is not None:
            watchers.append(stack.enter_context(pools.watch(f"{collection.kind}-{collection.name}", left)))
        bar = stack.enter_context(
            ProgressLine(f"train {collection.name}", left, str(place), what="checkpoints", quiet=pools.engine.quiet)
        )

        def report(done: Stretch) -> None:
            for watcher in watchers:
                watcher.report(UnitReport(done.index, 1, 0, done.seconds, {"total": done.total}, {}, done.cpu_seconds))
            bar.add(1)

        stack.enter_context(summarised(collection, tally))
        should_stop = pools.should_stop or (lambda: False)
        if on_ray:
            from tasks.ray_training import train_on_ray

            train_on_ray(job, place, should_stop, report)
        else:
            TrainingWorker(job, default_device()).run(should_stop, report)
        missing = len(collection.plan().units) - len(collection.done())
        if missing:
            raise RunStopped(
                f"the training was stopped with {missing} of its checkpoints left: run it again to continue"
            )
        tally.summary = RunSummary(left, left, 0, 0.0)


def _publish(collection: Collection, store: Store, job: TrainJob) -> None:
    """The best becomes ``encoders/<name>``; the file of JSON, without which the folder is not read as one, goes last."""
    folder = f"{collection.path}/best"
    names = sorted(store.objects.names(folder), key=lambda name: name.endswith(".json"))
    for name in names:
        store.objects.put(f"{job.recipe.makes}/{job.collection_name}/{name}", store.objects.read(f"{folder}/{name}"))
