"""``train``: any recipe, in stretches of some steps with a checkpoint each; in this process, or as workers of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pydantic import Field

from ganinv.config import StrictModel, config_path, digest, load_yaml, reread, validate
from ganinv.data.index import write_index
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import open_inverter
from ganinv.methods.registry import AnyRecipe
from ganinv.store import Collection, Plan, Store, open_store
from ganinv.training.recipe import Recipe
from tasks.engine import Pools, default_device, provenance
from tasks.pool import RunStopped, RunSummary, UnitReport
from tasks.sources import DatasetRef
from tasks.summary import Tally, summarised
from tasks.training import Stretch, TrainingWorker, stretch_id


class TrainJob(StrictModel):
    """Train an inverter for ``generator`` on generated images, and on real ones when ``dataset`` is given.

    Args:
        recipe: which method, and how it is trained.
        name: of the inverter in the store, which methods find it by, and of ``training/<name>``; the recipe's kind by
            default.
        start: an inverter of the same kind to go on from, by name or URI; None trains from scratch.
        needed: frozen inverters by role, in place of those that the recipe names.
        workers: how many train together (engine ``ray``); each takes its share of every batch.
    """

    store: str
    recipe: AnyRecipe
    name: str | None = None
    generator: str = EMBEDDED
    dataset: DatasetRef | None = None
    start: str | None = None
    needed: Mapping[str, str] = Field(default_factory=dict)
    workers: int = Field(1, ge=1)

    @property
    def collection_name(self) -> str:
        return self.name or self.recipe.kind

    @property
    def roles(self) -> dict[str, str]:
        """Role -> where its inverter is."""
        return {**self.recipe.needed, **self.needed}

    @property
    def inverter_url(self) -> str:
        """Where the trained inverter is."""
        return f"{open_store(self.store).url}/encoders/{self.collection_name}"


def load_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name (``configs/training/<name>.yaml``) or YAML path.

    Args:
        changes: values that go before the file's; a key may lead into a part, ``optimizer.lr``.

    Raises:
        ConfigError: no such recipe, or an unknown key; the nearest name is told.
    """
    path = config_path("training", name)
    data = load_yaml(path)
    for key, value in (changes or {}).items():
        *parts, last = key.split(".")
        inside = data
        for part in parts:
            found = inside.setdefault(part, {})
            if not isinstance(found, dict):
                raise ConfigError(f"{path.name}: {key!r} leads into {part!r}, which is a value and has no parts")
            inside = found
        inside[last] = value
    return validate(AnyRecipe, data, path.name)  # type: ignore[type-abstract,arg-type,no-any-return]


def run_train(job: TrainJob, pools: Pools) -> dict[str, Any]:
    """Train and save the inverter: the best of the validations as ``encoders/<name>``, where methods find it.

    ``training/<name>`` holds the losses of every step, the last checkpoints, pictures of held-out images beside their
    reconstructions, and TensorBoard files. Run again, it goes on from the last checkpoint.
    """
    store, generator = open_store(job.store), open_generator(job.generator)
    collection = store.collection("training", job.collection_name)
    plan, dataset = _plan(job, store, generator), None if job.dataset is None else job.dataset.open()
    if job.workers > 1 and pools.engine.kind == "inline":
        raise ConfigError(f"{job.workers} workers need processes of their own: train with --engine ray")
    plan = collection.start(plan, reread=_compared)
    if dataset is not None:
        write_index(dataset, collection.objects, collection.path, dataset.ids)
        dataset.forget()
    left = [unit for unit in plan.units if unit.index not in collection.done()]
    if left:
        _train(job, pools, collection, plan, sum(1 for _ in left))
    _publish(collection, store, job)
    manifest = collection.manifest() or collection.finish(plan)
    return {
        "collection": f"{collection.kind}/{collection.name}",
        "url": collection.url,
        "steps": manifest.rows,
        "units_computed": len(left),
        "encoder": job.inverter_url,
    }


def _plan(job: TrainJob, store: Store, generator: Generator) -> Plan:
    recipe = job.recipe
    needed = {role: open_inverter(uri, generator=generator, store=store) for role, uri in job.roles.items()}
    start = None if job.start is None else open_inverter(job.start, generator=generator, store=store)
    recipe.build(generator, needed, start)  # what does not fit is refused before anything is written
    config: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "needed": {role: one.fingerprint for role, one in needed.items()},
        "start": None if start is None else start.fingerprint,
        "workers": job.workers,
        "dataset": None,
    }
    if job.dataset is not None:  # on other images it is another training, and half of one would mix both
        ids = job.dataset.open().ids
        if not ids:
            raise DataError(f"{job.dataset.url} has no images: training needs some, or no data set at all")
        config |= {"dataset": job.dataset.model_dump(mode="json"), "images": digest(ids)}
    every = recipe.checkpoint_every
    stretches = [stretch_id(first, min(first + every - 1, recipe.steps)) for first in range(1, recipe.steps + 1, every)]
    origin = provenance(generator, encoder=job.collection_name, recipe=recipe.kind, seed=recipe.seed)
    return Plan.of("train", config, origin, stretches, 1)


class _Planned(StrictModel):
    """What the configuration of a plan holds of today's models."""

    recipe: AnyRecipe
    dataset: DatasetRef | None = None


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return reread(_Planned, config)


def _train(job: TrainJob, pools: Pools, collection: Collection, plan: Plan, left: int) -> None:
    """The steps that are left, wherever the engine says."""
    total = sum(len(unit.ids) for unit in plan.units)
    tally = Tally(left, pools.engine.kind, _gpus(pools))
    with ExitStack() as stack:
        watchers: list[Any] = [tally]
        if pools.watch is not None:
            watchers.append(stack.enter_context(pools.watch(f"{collection.kind}-{collection.name}", left)))

        def report(done: Stretch) -> None:
            detail = {"total": done.total}
            for watcher in watchers:
                watcher.report(UnitReport(done.index, 1, 0, done.seconds, detail, {}, done.cpu_seconds))

        stack.enter_context(summarised(collection, tally))
        should_stop = pools.should_stop or (lambda: False)
        if pools.engine.kind == "inline":
            TrainingWorker(job, default_device()).run(should_stop, report)
        else:
            from tasks.ray_training import train_on_ray

            train_on_ray(job, pools, should_stop, report)
        missing = total - len(collection.done())
        if missing:
            raise RunStopped(f"the training was stopped; {missing} of its {total} checkpoints are left: run it again")
        tally.summary = RunSummary(left, left, 0, 0.0)


def _gpus(pools: Pools) -> float:
    return float(pools.engine.gpus_per_slot or 0.0)


def _publish(collection: Collection, store: Store, job: TrainJob) -> None:
    """The best inverter becomes ``encoders/<name>``; config.json, without which the folder is none, goes last."""
    folder = f"{collection.path}/best"
    names = sorted(store.objects.names(folder), key=lambda name: name == "config.json")
    for name in names:
        store.objects.put(f"encoders/{job.collection_name}/{name}", store.objects.read(f"{folder}/{name}"))
