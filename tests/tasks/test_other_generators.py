"""Generators as they are in the world: without a discriminator, grey, with an opacity, through the steps of a run."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ganinv.config import config_path
from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import EMBEDDED, open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.method import method_config
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, plan_invert, run_invert
from tasks.steps.report import ReportJob, run_report
from tasks.steps.sample import SampleJob, run_sample
from tests.tiny import tiny_generator

METHODS = sorted(path.stem for path in config_path("methods", "pti").parent.glob("*.yaml"))
FEW = {"name": "few", "summary": "few steps", "space": "w", "batch_size": 4}
STAGE = {"kind": "optimize", "space": "w", "start": "mean", "steps": 3, "lr": 0.1}


def made(folder: Path, channels: int = 3, *, discriminator: bool = False) -> str:
    """A generator of 32x32 images in a folder."""
    g = tiny_generator()
    torch_seed = GeneratorConfig.model_validate({**g.cfg.model_dump(), "img_channels": channels})
    other = Generator(torch_seed)
    other.name = f"tiny-{channels}"
    if discriminator:
        other.discriminator = Discriminator(32, g.cfg.channels, img_channels=channels)
    other.measure_w(1000)
    save_generator(other, str(folder / other.name))
    return str(folder / other.name)


def job(store: Path, generator: str, faces: Path, **more: Any) -> InvertJob:
    few = store.parent / "few.yaml"
    few.write_text(yaml.safe_dump({**FEW, "stages": [STAGE]}))
    fields = {"store": str(store), "generator": generator, "dataset": DatasetRef(url=str(faces)), "method": str(few)}
    return InvertJob.model_validate(fields | more)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded generator without its discriminator, as most published files are."""
    g = open_generator(EMBEDDED)
    g.discriminator = None
    folder = tmp_path_factory.mktemp("bare") / "published"
    save_generator(g, str(folder))
    return str(folder)


@pytest.mark.seconds
@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_planned_without_a_discriminator_or_names_one_that_can(
    bare: str, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights of LPIPS
    asked = job(tmp_path / "store", bare, faces, method=method)
    try:
        plan = plan_invert(asked)
    except WeightsRefused:  # of an encoder that is not shipped
        with pytest.raises(WeightsRefused, match=r"train one with: ganinv train portraits-64-[\w-]+$"):
            plan_invert(asked)
        return
    except ConfigError as error:
        assert "needs VGG16" in method_config(method).summary
        (better,) = re.findall(r"ganinv invert: --method ([\w-]+)", str(error))
        plan = plan_invert(asked.model_copy(update={"method": better}))
    assert plan.provenance["distance_name"] == "efficientnet-lite0"
    assert "'embedded'" not in str(plan.config)
    assert not (tmp_path / "store").exists()


@pytest.mark.seconds
@pytest.mark.parametrize(("channels", "discriminator"), [(1, True), (1, False), (4, False)])
def test_grey_and_opacity_go_through_all_steps(
    tmp_path: Path, faces: Path, caplog: pytest.LogCaptureFixture, channels: int, discriminator: bool
) -> None:
    uri, root = made(tmp_path, channels, discriminator=discriminator), str(tmp_path / "store")
    caplog.set_level(logging.WARNING)
    common = {"store": root, "generator": uri}
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_invert(job(tmp_path / "store", uri, faces), pools)["failed"] == 0
        assert run_sample(SampleJob(**common, count=8), pools)["failed"] == 0
        g, shelf = open_generator(uri), open_store(root).directions
        vector = np.ones(g.w_dim, np.float32)
        shelf.put(Direction("up", vector, "w", g.name, g.fingerprint, "made-here"))
        edit: dict[str, Any] = {"name": "up", "directions": {"up": 1.0}, "strengths": [1.0]}
        assert run_edit(EditJob.model_validate({**common, "latents": "few", "edits": [edit]}), pools)["failed"] == 0
        measured = run_evaluate(EvaluateJob(**common, latents="few", edits="edits"), pools)
    assert [one["failed"] for one in measured.values()] == [0, 0]
    assert any("images are made" in record.getMessage() for record in caplog.records)
    table = open_store(root).latents["few"].read()
    assert table["distance"].null_count == 0
    name = open_store(root).latents["few"].provenance()["distance_name"]
    assert name == ("embedded" if discriminator else "efficientnet-lite0")
    report = run_report(ReportJob(**common, latents=("few",), samples="samples", edits="edits"))
    assert report["bytes"] > 10_000


@pytest.mark.seconds
def test_a_generator_of_two_channels_is_refused_by_what_it_is(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(ConfigError, match="images of 2 channels; those of 1"):
        plan_invert(job(tmp_path / "store", made(tmp_path, 2), faces))


@pytest.mark.seconds
def test_measuring_or_not_is_one_run(bare: str, tmp_path: Path, faces: Path) -> None:
    """What is measured of a result is not part of it: rows that are there stay, and new ones are not measured."""
    half = job(tmp_path / "store", bare, faces, unit_size=2, dataset=DatasetRef(url=str(faces), limit=2))
    whole = half.model_copy(update={"dataset": DatasetRef(url=str(faces)), "measure": False})
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(half, pools)
        assert run_invert(whole, pools)["rows"] == 4
    table = open_store(half.store).latents["few"].read()
    assert table["mse"].null_count == 2
