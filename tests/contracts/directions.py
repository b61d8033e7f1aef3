"""What every direction method promises, as functions of its name and settings.

``CHECKS`` are run for each entry of the registry by ``test_directions.py``, so a new method gets them with no other line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.method import DirectionMethod
from ganinv.directions.fitting.registry import METHODS
from ganinv.directions.fitting.samples import ArraySamples
from ganinv.directions.measuring.calibration import CalibrationConfig
from ganinv.editing import Edit
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Attribute, Labeller
from ganinv.store import open_store
from tests.tiny import tiny_generator

SMALL: Mapping[str, Mapping[str, Any]] = {
    "interfacegan": {"tails": 0.2, "bootstrap": 0},
    "ganspace": {"components": 2},
    "sefa": {"components": 2},
    "stylespace": {"bank": 40, "channels": 8, "strengths": (-3.0, -1.0, 1.0, 3.0), "response": 0.2},
    "classifier-gradient": {"samples": 8},
}
"""Settings that make a method quick; of one that is not named, none."""


class Colours(Labeller):
    """Mean red, and mean green less blue."""

    differentiable = True

    def __init__(self) -> None:
        kinds = {
            "red": Attribute(kind="value", positive_means="is redder"),
            "green": Attribute(kind="value", positive_means="is greener"),
        }
        super().__init__(name="colours", version=1, attributes=kinds, weights_sha256="0" * 64)

    def score(self, images: Tensor | None, ids: Any = None) -> dict[str, Tensor]:
        mean = self.checked(images).mean((2, 3))
        return {"red": 5 * mean[:, 0], "green": 5 * (mean[:, 1] - mean[:, 2])}


class Scored(ArraySamples):
    """Samples of W in memory, with scores of several attributes."""

    rows = None

    def __init__(self, latents: np.ndarray, scores: Mapping[str, np.ndarray]) -> None:
        super().__init__(latents, scores)
        self.columns = {name: f"score_{name}" for name in scores}

    def of_ids(self, names: list[Any]) -> np.ndarray:
        return self.latents[[int(name) for name in names]]


class World:
    """A generator of 16 pixels, 240 samples of it, and their colours."""

    @cached_property
    def generator(self) -> Generator:
        return tiny_generator(16)

    @cached_property
    def context(self) -> FitContext:
        g, colours = self.generator, Colours()
        z = torch.randn(240, g.z_dim, generator=torch.Generator().manual_seed(3))
        w = g.map(z)
        scores = {name: values.numpy() for name, values in colours(g.render(Code(w=w))).items()}
        latents = {"w": w[:, 0].numpy(), "z": z.numpy(), "w+": w.flatten(1).numpy()}
        return FitContext(
            lambda space: Scored(latents[space], scores),
            "w",
            {
                "generator_name": g.name,
                "generator_fingerprint": g.fingerprint,
                "labeller": colours.identity,
                "labeller_sha256": colours.weights_sha256,
            },
            lambda: g,
            lambda: colours,
            CalibrationConfig(samples=4, strengths=(-2.0, -1.0, 1.0, 2.0)),
        )

    def method(self, name: str) -> DirectionMethod:
        return validate(METHODS[name], {"method": name, **SMALL.get(name, {})}, name)

    @cache  # noqa: B019  # one world for all checks
    def fitted(self, name: str, again: int = 0) -> dict[str, Direction]:
        """By name; what is asked for ``again`` is fitted anew."""
        method = self.method(name)
        fit = method.fit(self.context)
        return {each: fit(each) for each in method.names(self.context)}


def knows_its_names_before_it_fits(name: str, world: World, folder: Path) -> None:
    method = world.method(name)
    names = method.names(world.context)
    assert names
    assert len(set(names)) == len(names)
    assert method.method == name


def makes_directions_of_the_generator(name: str, world: World, folder: Path) -> None:
    for each, direction in world.fitted(name).items():
        assert direction.name == each
        assert direction.generator_fingerprint == world.generator.fingerprint
        assert direction.method
        assert np.isfinite(direction.vector).all()
        assert np.abs(direction.vector).max() > 0
        assert direction.unit > 0


def makes_the_same_again(name: str, world: World, folder: Path) -> None:
    one, two = world.fitted(name), world.fitted(name, again=1)
    for each, direction in one.items():
        assert np.array_equal(direction.vector, two[each].vector)
        assert direction.unit == two[each].unit


def edits_images_from_a_store(name: str, world: World, folder: Path) -> None:
    store, g = open_store(str(folder / "store")), world.generator
    w = g.map(torch.randn(2, g.z_dim, generator=torch.Generator().manual_seed(9)))
    before = g.render(Code(w=w))
    for each, direction in world.fitted(name).items():
        store.directions.put(direction)
        assert np.array_equal(store.directions.get(each).vector, direction.vector)
        after = g.render(Edit({each: 2.0}).apply(Code(w=w), store, g.fingerprint))
        assert (after - before).abs().max() > 1e-3


def refuses_settings_that_it_does_not_have(name: str, world: World, folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'nonsense'"):
        validate(METHODS[name], {"method": name, "nonsense": 1}, name)


Check = Callable[[str, World, Path], None]

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        knows_its_names_before_it_fits,
        makes_directions_of_the_generator,
        makes_the_same_again,
        edits_images_from_a_store,
        refuses_settings_that_it_does_not_have,
    )
}
