"""``train`` as a step: from images to an inverter in the store, whatever is killed meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.errors import ConfigError, DataError, GeneratorMismatch, RunConflict, StoreError, WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from ganinv.methods.files import open_inverter
from ganinv.store import Store, open_store
from ganinv.training.trainer import TrainingStopped
from tasks.engine import Engine, open_pools
from tasks.pool import PoolError, RunStopped
from tasks.steps.train import TrainJob, run_train
from tests.chaos.processes import command, family, kill, wait_for
from tests.chaos.storage import BUCKET, S3Server
from tests.environment import found_by_environment
from tests.tiny import tiny_generator

RECIPE = {
    "kind": "e4e",
    "steps": 8,
    "batch_size": 4,
    "checkpoint_every": 2,
    "progressive_start": 2,
    "progressive_every": 2,
    "inverter": {"base_channels": 8, "pyramid_channels": 8},
    "losses": {"distance": 0},
    "validation": {"every": 4, "images": 4},
}

PLAIN = {name: value for name, value in RECIPE.items() if name in ("steps", "batch_size", "losses")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and twelve files, one of which is not an image."""
    folder = tmp_path_factory.mktemp("made")
    save_generator(tiny_generator(), str(folder / "g"))
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
    (folder / "images" / "05.png").write_bytes(b"no image")
    return folder


def job(made: Path, store: Path | str, **other: Any) -> TrainJob:
    fields = {"store": str(store), "generator": str(made / "g"), "dataset": {"url": str(made / "images")}}
    return TrainJob.model_validate({**fields, "recipe": RECIPE, **other})


def run(train: TrainJob, kind: str = "inline") -> Mapping[str, Any]:
    with open_pools(Engine.model_validate({"kind": kind, "quiet": True})) as pools:
        return run_train(train, pools)


@pytest.fixture(scope="module")
def undisturbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = tmp_path_factory.mktemp("undisturbed")
    run(job(made, store))
    return open_store(str(store))


def weights(store: Store, name: str = "e4e") -> bytes:
    return store.objects.read(f"encoders/{name}/inverter.safetensors")


@pytest.mark.seconds
def test_a_training_leaves_an_inverter_its_losses_and_pictures(made: Path, undisturbed: Store) -> None:
    g = open_generator(str(made / "g"))
    encoder = open_inverter("e4e", generator=g, store=undisturbed)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert encoder(images).w.shape == (2, g.num_ws, g.w_dim)
    losses = undisturbed.collection("training", "e4e").read()
    assert sorted(losses["step"].to_pylist()) == list(range(1, 9))
    seen = dict(zip(losses["step"].to_pylist(), losses["validation"].to_pylist(), strict=True))
    assert [step for step, value in seen.items() if value is not None] == [4, 8]
    names = undisturbed.objects.names("training/e4e")
    assert [n for n in names if n.startswith("checkpoint-")] == ["checkpoint-00002.pt", "checkpoint-00003.pt"]
    assert undisturbed.objects.names("training/e4e/strips") == ["step-00000004.png", "step-00000008.png"]
    assert Image.open(f"{undisturbed.url}/training/e4e/strips/step-00000008.png").size == (4 * 32, 2 * 32)


@pytest.mark.seconds
def test_run_again_it_finds_everything_done(made: Path, undisturbed: Store) -> None:
    assert run(job(made, undisturbed.url))["units_computed"] == 0
    with pytest.raises(RunConflict, match="steps is 8 there, 9 now"):
        run(job(made, undisturbed.url, recipe={**RECIPE, "steps": 9}))


@pytest.mark.seconds
def test_without_its_checkpoint_it_does_not_begin_anew(made: Path, tmp_path: Path) -> None:
    run(job(made, tmp_path))
    store = open_store(str(tmp_path))
    for name in ("part-00002.parquet", "part-00003.parquet", "checkpoint-00003.pt", "_manifest.json"):
        store.objects.remove(f"training/e4e/{name}")
    assert store.objects.read_if_there("training/e4e/checkpoint-00001.pt") is None
    with pytest.raises(TrainingStopped, match="its checkpoint is missing"):
        run(job(made, tmp_path))


@pytest.mark.seconds
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    made: Path, undisturbed: Store, tmp_path: Path
) -> None:
    text = f"""
import sys
from tests.tasks.test_train import job, run
from pathlib import Path
run(job(Path({str(made)!r}), Path({str(tmp_path)!r})))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", text], env=environment)
    checkpoint = tmp_path / "training/e4e/checkpoint-00001.pt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(job(made, tmp_path))
    assert weights(open_store(str(tmp_path))) == weights(undisturbed)


@pytest.mark.seconds
def test_trainings_on_s3_equal_those_on_files(made: Path, undisturbed: Store, s3_environment: str) -> None:
    run(job(made, f"{s3_environment}/train"))
    assert weights(open_store(f"{s3_environment}/train")) == weights(undisturbed)


@pytest.mark.slow
def test_a_storage_server_that_is_gone_for_a_while_costs_time_alone(
    made: Path, undisturbed: Store, tmp_path: Path
) -> None:
    """It is killed after the first checkpoint, and started again after some seconds: ``GANINV_TEST_GAP=30`` makes them thirty."""
    gap = float(os.environ.get("GANINV_TEST_GAP", "4"))
    downs: list[float] = []
    with S3Server("training-gap", tmp_path) as server, found_by_environment(server.environment):
        server.files().mkdir(BUCKET)

        def strike() -> None:
            wait_for(lambda: server.parts("train/training/e4e") > 0, 300, "the first checkpoint")
            server.kill()
            began = time.monotonic()
            time.sleep(gap)
            downs.append(time.monotonic() - began)
            server.start()

        thread = threading.Thread(target=strike)
        thread.start()
        result = run(job(made, f"s3://{BUCKET}/train"))
        thread.join()
        assert (len(downs), result["steps"]) == (1, 8)
        assert weights(open_store(f"s3://{BUCKET}/train")) == weights(undisturbed)


@pytest.mark.seconds
def test_no_space_for_a_checkpoint_loses_nothing_that_was_done(made: Path, undisturbed: Store, tmp_path: Path) -> None:
    """Files may grow to half a checkpoint only: the next one is not written, and those before stay."""
    train = job(made, tmp_path)
    answers = iter([False, True])
    engine = Engine.model_validate({"kind": "inline", "quiet": True})
    stopping = open_pools(engine, should_stop=lambda: next(answers, True))
    with stopping as pools, pytest.raises(RunStopped, match="3 of its checkpoints left"):
        run_train(train, pools)
    first = tmp_path / "training/e4e/checkpoint-00000.pt"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (first.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"no space left .* Free some space or use another store"):
            run(train)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = open_store(str(tmp_path)).objects.names("training/e4e")
    assert [name for name in names if name.startswith(("checkpoint", "part-"))] == [first.name, "part-00000.parquet"]
    assert run(train)["units_computed"] == 3
    assert weights(open_store(str(tmp_path))) == weights(undisturbed)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_two_workers_outlive_a_kill(made: Path, tmp_path: Path) -> None:
    """Ray Train replaces a worker that died, and all resume from the last checkpoint: the weights are those of two that lived."""
    store, killed = tmp_path / "killed", set[int]()

    def kill_one() -> None:
        wait_for((store / "training/e4e/part-00000.parquet").exists, 300, "the first checkpoint")
        workers = sorted(pid for pid in family({os.getpid()}) if "RayTrainWorker" in command(pid))
        killed.update(workers[:1])
        kill(killed)

    thread = threading.Thread(target=kill_one)
    thread.start()
    recipe = {**RECIPE, "steps": 24}
    run(job(made, store, workers=2, recipe=recipe), "ray")
    thread.join()
    assert killed
    assert sorted(open_store(str(store)).collection("training", "e4e").read()["step"].to_pylist()) == [*range(1, 25)]
    run(job(made, tmp_path / "lived", workers=2, recipe=recipe), "ray")
    assert weights(open_store(str(store))) == weights(open_store(str(tmp_path / "lived")))


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"recipe": {"kind": "e4f"}}, ValueError, "unknown recipe 'e4f', did you mean 'e4e'"),
        ({"recipe": {**RECIPE, "stps": 4}}, ValueError, "stps"),
        ({"recipe": {**RECIPE, "inverter": {"widht": 4}}}, ConfigError, "unknown key 'widht'"),
        (
            {"recipe": {**RECIPE, "inverter": {"w_dim": 512}}},
            GeneratorMismatch,
            "gives latents of 8x512, generator .* 8x16",
        ),
        ({"recipe": {**RECIPE, "data": {"real_share": 1.0}, "losses": {"identity": 1}}}, ConfigError, "ArcFace"),
        ({"start": "nowhere"}, WeightsRefused, "no encoder at 'nowhere'"),
        (
            {"recipe": {**PLAIN, "kind": "hyperstyle", "needed": {}}},
            ConfigError,
            "hyperstyle starts from another network, its w_encoder, which is not here: give it with --needed w_encoder=URI",
        ),
        ({"needed": {"encoder": "nowhere"}}, WeightsRefused, "no encoder at 'nowhere'"),
        ({"workers": 4}, ConfigError, "4 workers need processes of their own: train with --engine ray"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_name_free(
    made: Path, tmp_path: Path, other: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(job(made, tmp_path, **other))
    assert not (tmp_path / "training").exists()


@pytest.mark.seconds
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize(
    ("workers", "engine", "message"),
    [
        (400, {}, r"400 workers of 1 CPU each need 400, the cluster has \d+: give fewer --workers"),
        (1, {"gpus_per_slot": 1.0}, r"(?i)\bGPU"),
    ],
)
def test_more_than_the_cluster_has_is_refused(
    made: Path, tmp_path: Path, workers: int, engine: dict[str, Any], message: str
) -> None:
    recipe = {**RECIPE, "batch_size": workers}
    with (
        open_pools(Engine.model_validate({"kind": "ray", "quiet": True, **engine})) as pools,
        pytest.raises((ConfigError, PoolError), match=message),
    ):
        run_train(job(made, tmp_path, workers=workers, recipe=recipe), pools)
    assert open_store(str(tmp_path)).list("training") == []


@pytest.mark.seconds
def test_a_data_set_without_images(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        run(job(made, tmp_path / "s", dataset={"url": str(tmp_path / "empty")}))
    assert not (tmp_path / "s").exists()


@pytest.mark.seconds
def test_one_image_and_fewer_images_than_a_batch(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes((made / "images" / "00.png").read_bytes())
    recipe = {**RECIPE, "steps": 2, "data": {"real_share": 1.0}}
    assert run(job(made, tmp_path / "s", dataset={"url": str(tmp_path / "one")}, recipe=recipe))["steps"] == 2
    assert "has 1 images, fewer than a batch of " in caplog.text


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(made: Path, tmp_path: Path) -> None:
    recipe = {**RECIPE, "kind": "psp", "optimizer": {"kind": "adam", "lr": 1e30}}
    recipe = {k: v for k, v in recipe.items() if not k.startswith("progressive")}
    with pytest.raises(TrainingStopped, match=r"the loss is not finite at step \d: the last checkpoint stays"):
        run(job(made, tmp_path, recipe=recipe | {"checkpoint_every": 1}))
    assert (tmp_path / "training/psp/checkpoint-00000.pt").exists()


@pytest.mark.seconds
def test_a_degraded_training_shows_what_was_seen(made: Path, tmp_path: Path) -> None:
    fields = ("batch_size", "inverter", "losses")
    recipe = {name: RECIPE[name] for name in fields} | {
        "kind": "psp",
        "steps": 2,
        "validation": {"every": 2, "images": 4},
        "data": {"degrade": {"choose": [{"kind": "strokes", "count": [4, 4]}]}},
    }
    run(job(made, tmp_path, recipe=recipe))
    path = f"{open_store(str(tmp_path)).url}/training/psp/strips/step-00000002.png"
    strip = np.asarray(Image.open(path)).astype(int)
    assert strip.shape == (3 * 32, 4 * 32, 3)
    clean, seen = strip[:32], strip[32:64]
    covered = np.abs(clean - seen).max(axis=2) > 1
    assert 0 < covered.mean() < 1
    assert (seen[covered] == 255).all()


def test_masks_that_images_lack_are_missed_before_anything_is_written(made: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (32, 32), 255).save(masks / "00.png")
    recipe = {
        "kind": "interestyle",
        "steps": 2,
        "batch_size": 4,
        "passes": 1,
        "inverter": {"encoder": RECIPE["inverter"]},
        "losses": {"distance": 0},
        "data": {"real_share": 1.0, "masks": {"folder": str(masks)}},
    }
    with pytest.raises(DataError, match=r"11 of 12 images have no mask in .*, the first is 01\.png: add the masks"):
        run(job(made, tmp_path / "store", recipe=recipe))
    assert open_store(str(tmp_path / "store")).list("training") == []
