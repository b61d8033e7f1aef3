"""Every inverter and every recipe of the registries, and one that is registered here, does what all promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.registry import INVERTERS, PRODUCTS, RECIPES
from ganinv.registry import Registry
from ganinv.training.learner import Learner
from tests.contracts.inverters import (
    CHECKS,
    TRAINING_CHECKS,
    World,
    goes_from_image_to_edited_picture_through_the_store,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


DEAR = ("does_not_depend", "goes_from_image", "leaves_no_tensor")


@pytest.mark.parametrize(
    "check", [pytest.param(check, marks=pytest.mark.seconds if check.startswith(DEAR) else ()) for check in CHECKS]
)
@pytest.mark.parametrize("kind", INVERTERS)
def test_inverter(kind: str, check: str, world: World) -> None:
    CHECKS[check](kind, world)


@pytest.mark.seconds
@pytest.mark.parametrize("check", TRAINING_CHECKS)
@pytest.mark.parametrize("kind", [kind for kind in RECIPES if kind in INVERTERS])
def test_recipe(kind: str, check: str, world: World) -> None:
    TRAINING_CHECKS[check](kind, world)


def test_every_inverter_has_a_recipe_of_its_name_and_others_say_what_they_make() -> None:
    assert set(INVERTERS) <= set(RECIPES), (
        f"no recipe of {set(INVERTERS) - set(RECIPES)}: add its line to RECIPES in registry.py"
    )
    for kind in RECIPES:
        assert (RECIPES[kind].makes == "encoders") == (kind in INVERTERS)
        assert RECIPES[kind].makes in PRODUCTS


class DummyConfig(InverterConfig):
    """One linear layer on pixels of 4x4."""

    kind: Literal["dummy"] = "dummy"
    num_ws: int
    w_dim: int


class Dummy(Inverter):
    """As little as a method can be."""

    Config = DummyConfig
    latent_avg: Tensor

    def build(self) -> None:
        self.linear = nn.Linear(3 * 16, self.cfg.w_dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("latent_avg", torch.zeros(self.cfg.w_dim))

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        small = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
        yield Code(w=(self.latent_avg + self.linear(small))[:, None].expand(-1, self.cfg.num_ws, -1))


class DummyRecipe(InverterRecipe):
    kind: Literal["dummy"] = "dummy"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InverterLearner(self, new_inverter(Dummy, self, generator, needed, start))


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> str:
    """Registered as a package of somebody else would do it, for one test."""
    registries: tuple[Registry[type], ...] = (INVERTERS, RECIPES)  # type: ignore[assignment]
    for registry, entry in zip(registries, (Dummy, DummyRecipe), strict=True):
        monkeypatch.setattr(registry, "_homes", dict(registry._homes))
        registry.register("dummy", entry)
    return "dummy"


@pytest.mark.seconds
def test_a_method_that_is_registered_gets_all_of_it(dummy: str, world: World) -> None:
    for check in (*CHECKS.values(), *TRAINING_CHECKS.values()):
        check(dummy, world)


@pytest.mark.slow
@pytest.mark.parametrize("kind", INVERTERS)
def test_inverter_on_s3(kind: str, tmp_path: Path, s3_environment: str) -> None:
    goes_from_image_to_edited_picture_through_the_store(kind, World(tmp_path), f"{s3_environment}/contract-{kind}")
