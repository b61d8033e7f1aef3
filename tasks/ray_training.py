"""A training on a Ray cluster: ``ray.train``'s workers, each a :class:`tasks.training.TrainingWorker`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from ganinv.errors import ConfigError, GaninvError
from ganinv.store import open_store
from tasks.pool import PoolError
from tasks.pool.contract import Place
from tasks.pool.ray_local import connected
from tasks.steps.train_job import TrainJob
from tasks.training import FAILURE, STOP, Stretch, TrainingWorker, stretch_of

MOST_FAILURES = 20
"""How often workers may die; each time, all resume from the last checkpoint."""
LOOK_SECONDS = 1.0


def train_on_ray(
    job: TrainJob, place: Place, should_stop: Callable[[], bool], report: Callable[[Stretch], None]
) -> None:
    """Train with the workers of ``place`` until the last step, or until ``should_stop``.

    Raises:
        GaninvError: what a worker raised on purpose. PoolError: the cluster lacks what is asked for, or workers keep dying.
    """
    collection = open_store(job.store).collection("training", job.collection_name)
    for marker in (FAILURE, STOP):
        collection.objects.remove(f"{collection.path}/{marker}")
    with connected(None):
        _check_room(place)
        ended, raised = threading.Event(), list[BaseException]()
        fitting = threading.Thread(target=_fit, args=(job, place, ended, raised), daemon=True)
        fitting.start()
        reported, since = set(collection.done()), time.perf_counter()
        stopping = False
        while not ended.wait(LOOK_SECONDS):
            since = _report_new(collection, reported, since, report)
            if not stopping and should_stop():
                stopping = True
                collection.objects.put(f"{collection.path}/{STOP}", b"")
        _report_new(collection, reported, since, report)
        _raise_failure(job, raised)


def _fit(job: TrainJob, place: Place, ended: threading.Event, raised: list[BaseException]) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    try:
        TorchTrainer(
            _work,
            train_loop_config={"job": job.model_dump(mode="json")},
            scaling_config=ScalingConfig(
                num_workers=place.slots,
                use_gpu=place.gpus_per_slot > 0,
                resources_per_worker=_resources(place),
            ),
            run_config=RunConfig(failure_config=FailureConfig(max_failures=MOST_FAILURES)),
        ).fit()
    except BaseException as error:
        raised.append(error)
    finally:
        ended.set()


def _work(config: dict[str, Any]) -> None:
    """One worker. An error raised on purpose is not retried: it is recorded, and every later worker ends immediately."""
    from ray import train

    job = TrainJob.model_validate(config["job"])
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    collection = open_store(job.store).collection("training", job.collection_name)

    def marked(name: str) -> bool:
        return collection.objects.read_if_there(f"{collection.path}/{name}") is not None

    def should_stop() -> bool:
        said = torch.tensor(float(marked(STOP) or marked(FAILURE)) if rank == 0 else 0.0)
        if world > 1:
            torch.distributed.broadcast(said.to(device), 0)
        return bool(said)

    if marked(FAILURE):
        return
    device = str(train.torch.get_device())
    try:
        TrainingWorker(job, device, rank, world).run(should_stop, lambda _: None)
    except GaninvError as error:
        text = json.dumps({"error": type(error).__name__, "message": str(error)})
        collection.objects.put(f"{collection.path}/{FAILURE}", text.encode())
        raise


def _report_new(collection: Any, reported: set[int], since: float, report: Callable[[Stretch], None]) -> float:
    """Tell of stretches that are done now; returns the time of the last."""
    new = sorted(collection.done() - reported)
    now = time.perf_counter()
    for index in new:
        first, last = stretch_of(collection.plan().units[index].ids[0])
        report(Stretch(index, last - first + 1, (now - since) / len(new), 0.0, float("nan")))
    reported.update(new)
    return now if new else since


def _resources(place: Place) -> dict[str, float]:
    """What Ray is asked for, for each worker."""
    return {"CPU": place.cpus_per_slot} | ({"GPU": place.gpus_per_slot} if place.gpus_per_slot else {})


def _check_room(place: Place) -> None:
    import ray

    there = ray.cluster_resources()
    for what, each in _resources(place).items():
        if each * place.slots > there.get(what, 0.0) + 1e-9:
            raise ConfigError(
                f"{place.slots} workers of {each:g} {what} each need {each * place.slots:g}, the cluster has "
                f"{there.get(what, 0.0):g}: give fewer --workers, less of it for each, or join a larger cluster (RAY_ADDRESS)"
            )


def _raise_failure(job: TrainJob, raised: list[BaseException]) -> None:
    store = open_store(job.store)
    path = f"training/{job.collection_name}/{FAILURE}"
    data = store.objects.read_if_there(path)
    if data is not None:
        store.objects.remove(path)
        raise ConfigError(str(json.loads(data)["message"]))
    if raised:
        raise PoolError(f"the training ended after {MOST_FAILURES} losses of workers: {raised[0]}") from raised[0]
