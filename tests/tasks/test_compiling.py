"""A run whose steps are compiled: when it decides so, that its plan says it, and that results are those of plain steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data.png import png_bytes
from ganinv.generators import fast
from ganinv.generators.files import save_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.stages.method import method_config
from ganinv.store import Plan, open_store
from ganinv.store.tensors import tensor_numpy
from tasks import compiling
from tasks.engine import Engine, open_pools
from tasks.estimate import Estimate
from tasks.sources import DatasetRef
from tasks.steps.invert import InvertJob, run_invert
from tests.tiny import random_w

INLINE = Engine(kind="inline", quiet=True)
METHOD = """name: short
summary: A few steps, and a few on weights.
space: w+
batch_size: 4
stages:
  - {kind: optimize, space: w, steps: 5, loss: {distance_weight: 0.0}}
  - {kind: tune, form: low-rank, rank: 2, optimizer: muon, steps: 5, lr: 0.01, loss: {distance_weight: 0.0}}
"""


def plan_of(name: str, unit_size: int = 16, **overrides: object) -> Plan:
    method = method_config(name, **overrides).model_dump(mode="json")
    return Plan.of("invert", {"method": method}, {"method": name}, [f"{i:02}" for i in range(32)], unit_size)


def taking(seconds: float | None) -> Callable[[], Estimate]:
    return lambda: Estimate("latents/a", 2, 2, 1, 1, seconds, None, None, None, "")


def unasked() -> Estimate:
    raise AssertionError("nobody needs to know what this run costs")


@pytest.mark.parametrize(("seconds", "compiled"), [(None, False), (1800.0, False), (7200.0, True)])
def test_a_run_compiles_if_it_is_long_enough(
    seconds: float | None, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: "c++")
    decided = compiling.decide(plan_of("pti"), taking(seconds), INLINE)
    assert decided.config["method"]["compiled"] is compiled
    assert decided.config["method"].items() >= {**plan_of("pti").config["method"], "compiled": compiled}.items()


@pytest.mark.parametrize(("unit_size", "compiled"), [(32, True), (31, False), (8, False)])
def test_idle_places_of_batches_count_against_it(
    unit_size: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: "c++")
    decided = compiling.decide(plan_of("pti", unit_size), taking(1e6), INLINE)
    assert decided.config["method"]["compiled"] is compiled


def test_it_does_not_without_a_compiler_or_against_a_switch_or_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: "c++")
    on_a_gpu = INLINE.model_copy(update={"gpus_per_slot": 1.0})
    assert compiling.decide(plan_of("pti"), taking(7200.0), on_a_gpu).config["method"]["compiled"] is False
    monkeypatch.setenv("GANINV_FAST", "off")
    assert compiling.decide(plan_of("pti"), unasked, INLINE).config["method"]["compiled"] is False
    monkeypatch.delenv("GANINV_FAST")
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert compiling.decide(plan_of("pti"), unasked, INLINE).config["method"]["compiled"] is False


@pytest.mark.parametrize("plan", [plan_of("e4e"), plan_of("pti", compiled=True), plan_of("pti", compiled=False)])
def test_nothing_is_decided_about_encoders_or_for_who_has_decided(plan: Plan) -> None:
    assert compiling.decide(plan, unasked, INLINE) is plan


def test_steps_are_compiled_within_only_and_not_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    fast.fast_path("off")
    monkeypatch.setattr(fast, "_gave_up", False)
    with fast.compiled_steps(True):
        assert fast.fast_path() == "step"
    assert fast.fast_path() == "off"
    with fast.compiled_steps(True):
        with pytest.warns(UserWarning, match="no fast path: OSError: no compiler"):
            fast.give_up(OSError("no compiler"))
        assert fast.fast_path() == "off"
    with fast.compiled_steps(True):
        assert fast.fast_path() == "off"


def test_what_somebody_asked_for_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fast.fast_path("compile")
    with fast.compiled_steps(True):
        assert fast.fast_path() == "compile"
    monkeypatch.setenv("GANINV_FAST", "off")
    fast.fast_path("off")
    with fast.compiled_steps(True):
        assert fast.fast_path() == "off"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(compiling.compiler() is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_goes_where_a_plain_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a latent with noise added, and of weights of low rank; more images than lanes, so that shapes change on the way. New
    images, by when the run is short, are computed as the others were."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=8, channels=(6, 5), z_dim=7, w_dim=7, mapping_layers=1)).eval()
    save_generator(g, str(tmp_path / "g.pt"), "nvidia")
    (tmp_path / "images").mkdir()
    for k, image in enumerate(g.render(Code(w=random_w(g, 8)))):
        (tmp_path / f"images/{k}.png").write_bytes(png_bytes(image))
    (tmp_path / "short.yaml").write_text(METHOD)
    monkeypatch.setattr(compiling, "SECONDS", -1.0)

    def inverted(name: str, images: int, **overrides: bool) -> tuple[bool, Tensor]:
        fields = {"store": str(tmp_path / "s"), "generator": str(tmp_path / "g.pt"), "name": name}
        dataset = DatasetRef(url=str(tmp_path / "images"), limit=images)
        job = InvertJob(**fields, dataset=dataset, method=str(tmp_path / "short.yaml"), overrides=overrides)
        with open_pools(INLINE) as pools:
            run_invert(job, pools)
        latents = open_store(job.store).latents[name]
        rows = latents.read(["w", "mse"])
        assert rows["mse"].null_count == 0
        return latents.plan().config["method"]["compiled"], torch.from_numpy(tensor_numpy(rows["w"]))

    compiled, got = inverted("compiled", 6)
    assert compiled
    assert not fast._gave_up
    plain, want = inverted("plain", 8, compiled=False)
    assert not plain
    torch.testing.assert_close(got, want[:6], atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(compiling, "SECONDS", 1e9)
    compiled, grown = inverted("compiled", 8)
    assert compiled
    torch.testing.assert_close(grown, want, atol=1e-4, rtol=1e-3)
    assert torch.equal(grown[:6], got)
