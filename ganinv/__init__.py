"""Dataset-scale GAN inversion: the public face. Names are loaded when they are used, so importing this is instant."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganinv.switches import prefer_reproducible_products

if TYPE_CHECKING:
    from ganinv.codes.code import Code, Feature, HeadCode, LowRank, Masked
    from ganinv.directions.direction import Direction
    from ganinv.editing import Edit
    from ganinv.errors import (
        ConfigError,
        DataError,
        GaninvError,
        GeneratorMismatch,
        RunConflict,
        StoreError,
        WeightsRefused,
    )
    from ganinv.generators.files import open_generator, save_generator
    from ganinv.generators.stylegan2 import Generator, GeneratorConfig
    from ganinv.methods.files import open_inverter, save_inverter
    from ganinv.methods.published.checkpoints import open_encoder_checkpoint
    from ganinv.stages.method import Inversion, Method, load_method
    from ganinv.store import Store, open_store
    from ganinv.target import Target
    from ganinv.weights.importing import import_weights
    from ganinv.weights.inspection import inspect_weights

prefer_reproducible_products()  # before the first product of this process; every worker comes through here too

_HOMES = {
    "ganinv.codes.code": ("Code", "Feature", "HeadCode", "LowRank", "Masked"),
    "ganinv.directions.direction": ("Direction",),
    "ganinv.editing": ("Edit",),
    "ganinv.methods.published.checkpoints": ("open_encoder_checkpoint",),
    "ganinv.methods.files": ("open_inverter", "save_inverter"),
    "ganinv.errors": (
        "ConfigError",
        "DataError",
        "GaninvError",
        "GeneratorMismatch",
        "RunConflict",
        "StoreError",
        "WeightsRefused",
    ),
    "ganinv.generators.files": ("open_generator", "save_generator"),
    "ganinv.generators.stylegan2": ("Generator", "GeneratorConfig"),
    "ganinv.weights.importing": ("import_weights",),
    "ganinv.weights.inspection": ("inspect_weights",),
    "ganinv.stages.method": ("Inversion", "Method", "load_method"),
    "ganinv.store": ("Store", "open_store"),
    "ganinv.target": ("Target",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  # grouped as a reader meets them
    "Code",
    "Feature",
    "HeadCode",
    "LowRank",
    "Masked",
    "Target",
    "Generator",
    "GeneratorConfig",
    "open_generator",
    "save_generator",
    "inspect_weights",
    "import_weights",
    "open_inverter",
    "open_encoder_checkpoint",
    "save_inverter",
    "load_method",
    "Method",
    "Inversion",
    "Direction",
    "Edit",
    "Store",
    "open_store",
    "GaninvError",
    "ConfigError",
    "DataError",
    "GeneratorMismatch",
    "RunConflict",
    "StoreError",
    "WeightsRefused",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'ganinv' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
