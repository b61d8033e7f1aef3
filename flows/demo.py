"""The demo: the chain ``configs/chains/demo.yaml`` on photos of people that need no download."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.chain import ChainJob, chain, load_chain
from ganinv.config import config_path, load_yaml, offered
from ganinv.data.demo import demo_photos, demo_small_faces
from ganinv.errors import ConfigError, GaninvError, RunConflict
from ganinv.faces import open_detector
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.stages.method import method_config
from ganinv.store import open_store
from tasks.engine import Engine
from tasks.framing import unaligned
from tasks.inverters import open_named
from tasks.jobs.dataset import DatasetRef
from tasks.steps.evaluate import EvaluateJob
from tasks.steps.invert import InvertJob

_log = logging.getLogger("ganinv.demo")


def run_demo(store: str, dataset: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """Run or resume the demo on ``dataset``: fields of a ``DatasetRef``. Without a ``url`` it is the built-in photos, written to
    ``<store>/inputs`` first, and small grey faces beside them. Photos are aligned first, crops of faces are taken as they are."""
    job = _with_dataset(store, dataset, engine) if "url" in dataset else _built_in(store, dataset, engine)
    try:
        return chain(job)
    except RunConflict as conflict:  # what the demo does may change with the code
        raise RunConflict(
            f"an older demo, or another run, is in {store}: remove it, or give --store. {conflict}"
        ) from None


def _built_in(store: str, dataset: Mapping[str, Any], engine: Engine) -> ChainJob:
    # Beside a local store; a remote store's inputs stay on this machine, where the workers of the demo are.
    root = open_store(store)
    folder = (Path(root.url) if root.objects.is_local else Path("runs/demo-inputs").absolute()) / "inputs"
    photos = demo_photos(folder)
    job = load_chain("demo", store=store, dataset={**dataset, "url": str(photos)}, engine=engine.model_dump())
    report = job.report
    assert job.align is not None
    assert report is not None
    try:
        open_detector("dlib")
    except ConfigError as missing:
        _log.warning("faces are where eyes found them, not a detector: %s", missing)
        table = {"kind": "landmarks", "table": str(folder / "landmarks.csv")}
        align = type(job.align).model_validate({**job.align.model_dump(), "detector": table})
        job = job.model_copy(update={"align": align})
    small = DatasetRef(url=str(demo_small_faces(folder / "small-faces")))
    more = tuple(
        InvertJob(store=store, dataset=small, method=name, name=f"small-{name}", unit_size=3) for name in _there(store)
    )
    measured = tuple(EvaluateJob(store=store, latents=each.collection_name) for each in more)
    others = {"others": tuple(each.collection_name for each in more), "others_title": "Small grey faces"}
    return job.model_copy(
        update={
            "invert": (*job.invert, *more),
            "evaluate": (*job.evaluate, *measured),
            "report": report.model_copy(update=others),
        }
    )


def _there(store: str) -> list[str]:
    """The methods that are shown small grey faces, as far as their networks can be opened."""
    generator, found = open_generator(EMBEDDED), []
    for name in offered("small_faces"):
        job = InvertJob(store=store, dataset=DatasetRef(url=store), method=name)
        try:
            for inverter in method_config(name).inverters:
                open_named(job, inverter, generator)
        except GaninvError as missing:
            _log.debug("small faces are not shown to %s: %s", name, missing)
            continue
        found.append(name)
    return found


def _with_dataset(store: str, dataset: Mapping[str, Any], engine: Engine) -> ChainJob:
    shared: dict[str, Any] = {"store": store, "dataset": dict(dataset), "engine": engine.model_dump()}
    why = unaligned(DatasetRef.model_validate(dataset).open(), EMBEDDED)
    if why:
        _log.warning("%s: they are taken for photos, and aligned first", why)
        return load_chain("demo", **shared)
    return _without_alignment(shared)


def _without_alignment(shared: Mapping[str, Any]) -> ChainJob:
    """The chain on crops of faces: nothing is aligned, and nothing pasted back."""
    plain = {
        key: value for key, value in load_yaml(config_path("chains", "demo")).items() if key not in ("align", "paste")
    }
    plain["report"] = {key: value for key, value in plain["report"].items() if key != "pasted"}
    plain["edit"] = [each for each in plain["edit"] if each.get("name") != "retouched"]
    return ChainJob.model_validate({**plain, **shared})
