"""bfloat16 is for speed: what comes out is float32, and nearly as close."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from ganinv.codes.code import Code, LowRank
from ganinv.generators.files import open_generator
from ganinv.stages import precision
from ganinv.stages.base import Context, StageResult
from ganinv.stages.method import load_method
from ganinv.stages.optimize import Optimize
from ganinv.stages.precision import choose_precision
from ganinv.stages.tune import Tune
from ganinv.store import open_store
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, plan_invert, run_invert
from tests.tiny import random_w, tiny_generator


def test_features_are_bfloat16_and_the_image_is_float32() -> None:
    g = tiny_generator()
    w = g.map(torch.randn(2, g.z_dim))
    weight = g.synthesis.convs[1].weight
    offset = LowRank(torch.randn(2, weight.shape[0], 2) * 0.1, torch.randn(2, 2, weight[0].numel()) * 0.1)
    code = Code(w=w, weights={"convs.1.weight": offset})
    plain = g.synthesize(code)
    with g.computing_in("bfloat16"):
        image, seen = g.synthesize(code, capture=["act[0]", "act[1]", "act[2]"])
    assert [f.dtype for f in seen.values()] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert image.dtype == torch.float32
    assert g.precision == "float32"
    assert not torch.equal(image, plain)
    assert (image - plain).square().mean() < 1e-3 * plain.square().mean()


@pytest.mark.seconds
def test_methods_in_bfloat16_come_as_close() -> None:
    g = tiny_generator()
    target = Target(g.render(Code(w=random_w(g, 4))))
    stages = {0: {"steps": 10}, 1: {"steps": 10}}
    full = load_method("pti-w", g, stages=dict(stages), precision="float32").invert(target)
    method = load_method("pti-w", g, stages=dict(stages), precision="bfloat16")
    half = method.invert(target)
    assert g.precision == method.context.precision == "float32"
    assert half.code.w.dtype == torch.float32
    assert not torch.equal(g.render(half.code), g.render(full.code))
    assert half.error == [None] * 4
    # The bar of 2 % is for whole runs on the embedded generator (`benchmarks/generator/floor.py`).
    assert torch.tensor(half.metrics["distance"]).mean() < 1.1 * torch.tensor(full.metrics["distance"]).mean()


@pytest.mark.seconds
def test_an_encoder_in_bfloat16_gives_nearly_the_same_latents() -> None:
    g = open_generator("portraits-64")
    target = Target(g.render(Code(w=g.map(torch.randn(4, g.z_dim, generator=torch.Generator().manual_seed(0))))))
    full = load_method("e4e", g, precision="float32").invert(target).code.w
    half = load_method("e4e", g, precision="bfloat16").invert(target).code.w
    assert half.dtype == torch.float32
    assert 0 < (half - full).square().mean() < 1e-3 * full.var()


@pytest.mark.seconds
@pytest.mark.skipif(not precision.has_bfloat16(), reason="this processor does not multiply in bfloat16")
@pytest.mark.parametrize(
    "stage",
    [
        Optimize(space="w+", steps=6, latent_noise=0.0),
        Tune(steps=6, lr=0.01, form="low-rank", rank=4, optimizer="muon"),
    ],
    ids=["optimize", "tune"],
)
@pytest.mark.usefixtures("each_number_of_threads")
def test_company_leaves_no_trace_in_bfloat16_either(stage: Optimize | Tune) -> None:
    """Where ``auto`` would choose it, it promises what float32 does."""
    if choose_precision("auto") != "bfloat16":
        pytest.skip("auto is float32 here: an image's result depends on its batch in bfloat16")
    g = tiny_generator()
    target, start = Target(g.render(Code(w=random_w(g, 7)))), Code(w=random_w(g, 7, seed=5))

    def run(order: list[int], lanes: int) -> StageResult:
        context = Context(g, lambda name: pytest.fail(name), lanes=lanes)
        with context.computing_in("bfloat16"):
            return stage(target.some(order), start[order], context)

    full, some = run(list(range(7)), 4), run([6, 2, 0, 3], 8)
    for k, i in enumerate([6, 2, 0, 3]):
        assert full.loss[i] == some.loss[k]
        assert torch.equal(full.code.w[i], some.code.w[k])


@pytest.mark.parametrize(
    ("wanted", "device", "has", "found", "chosen"),
    [
        ("auto", "cpu", True, (), "bfloat16"),
        ("auto", "cpu", False, (), "float32"),
        ("auto", "cpu", True, ("matmul 512x512",), "float32"),
        ("auto", "cuda", True, (), "float32"),
        ("float32", "cpu", True, (), "float32"),
        ("bfloat16", "cpu", False, (), "bfloat16"),
    ],
)
def test_what_auto_is(
    wanted: Literal["auto", "float32", "bfloat16"],
    device: str,
    has: bool,
    found: tuple[str, ...],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has)
    monkeypatch.setattr(precision, "traces", lambda device, dtype: found)
    assert choose_precision(wanted, device) == chosen


def test_a_method_says_what_auto_became(monkeypatch: pytest.MonkeyPatch) -> None:
    g = tiny_generator()
    for has, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda has=has: has)
        monkeypatch.setattr(precision, "traces", lambda device, dtype: ())
        assert load_method("pti-w", g, precision="auto").cfg.precision == chosen


@pytest.mark.seconds
def test_a_run_goes_on_as_it_was_begun(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a processor that would choose otherwise."""
    job = InvertJob(
        store=str(tmp_path),
        dataset=DatasetRef(url=str(faces), limit=2),
        method="e4e",
        overrides={"precision": "auto"},
    )
    monkeypatch.setattr(precision, "traces", lambda device, dtype: ())
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_invert(job, pools)
    planned = open_store(job.store).latents["e4e"].plan()
    assert planned.config["method"]["precision"] == "bfloat16"
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert plan_invert(job).config["method"]["precision"] == "bfloat16"
    assert plan_invert(job.model_copy(update={"name": "other"})).config["method"]["precision"] == "float32"
