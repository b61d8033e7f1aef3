"""Inverters with random weights: nobody has trained those of a generator with random weights, and speed does not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ganinv.config import config_names, validate
from ganinv.errors import ConfigError, GaninvError
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.methods.learning import InverterRecipe, begin_at_mean
from ganinv.methods.registry import INVERTERS, load_recipe

LARGE = 256  # pixels from which a generator gets the published shapes


def opener(generator: Generator) -> Callable[[str], Inverter]:
    """(name) -> the inverter that ships for this generator, or one of random weights, made once."""

    @cache
    def of(name: str) -> Inverter:
        try:
            return open_inverter(name, generator=generator)
        except GaninvError:
            return untrained(name, generator, of)

    return of


def untrained(name: str, generator: Generator, needed: Callable[[str], Inverter]) -> Inverter:
    """As the first recipe for ``name`` has it that fits the generator's size; codes are near the mean of W."""
    recipe = load_recipe(recipe_for(name, generator))
    if not isinstance(recipe, InverterRecipe):
        raise ConfigError(f"the recipe of {name!r} trains no inverter")
    cls = INVERTERS[recipe.kind]
    config = validate(cls.Config, cls.Config.for_generator(generator, {**recipe.inverter}), f"recipe {name}")
    inverter = cls(config, generator, {role: needed(uri) for role, uri in recipe.needed.items()})
    begin_at_mean(inverter, generator)
    return inverter.to(generator.device).eval().requires_grad_(False)


def recipe_for(name: str, generator: Generator) -> str:
    """The recipe whose network an inverter of this name has, at this generator's size."""
    sizes = ("ffhq-1024", "ffhq-256", "portraits-64") if generator.resolution >= LARGE else ("portraits-64",)
    there = config_names("training")
    for size in sizes:
        for ending in (name, name.removesuffix("-encoder"), f"{name}-psp"):
            if f"{size}-{ending}" in there:
                return f"{size}-{ending}"
    raise ConfigError(f"no recipe says what network the inverter {name!r} is")
