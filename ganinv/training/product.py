"""The products of trainings, and what trainings start from: inverters, generators, labellers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Store
from ganinv.training.learner import Learner


@dataclass(frozen=True)
class Places:
    """Locations of what a training starts from, each a name or a URI.

    Args:
        name: of the product. ``start`` and ``needed`` of that name are not looked up in the store.
    """

    generator: str
    store: Store
    name: str
    start: str | None = None
    needed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What a training starts from, opened.

    Args:
        device: where it computes.
        generator: what it trains an inverter for, or learns samples of; None if there is none.
        needed: frozen networks by role.
        start: a network of the kind that it trains, to start from.
        fingerprints: of ``needed`` by role, and of ``start`` under that name.
    """

    device: torch.device
    generator: Generator | None = None
    needed: Mapping[str, nn.Module] = field(default_factory=dict)
    start: nn.Module | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def known_generator(self) -> Generator:
        """The generator.

        Raises:
            ConfigError: there is none.
        """
        if self.generator is None:
            raise ConfigError("this training needs a generator: give one with --generator")
        return self.generator


class Product(ABC):
    """A kind of thing that trainings make.

    Attributes:
        noun: what one is called.
    """

    noun: ClassVar[str]

    @abstractmethod
    def open(self, places: Places, device: str) -> Given:
        """Open what a training of this kind starts from."""

    @abstractmethod
    def pack(self, learner: Learner, given: Given, name: str, record: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of its folder by name, for the current state of the learner's network. A folder without the last of them
        is not taken for a product.

        Args:
            name: what it is called. record: how it was trained.
        """
