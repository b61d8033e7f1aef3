"""All directions of one fit by their names, whichever of its methods makes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from ganinv.config import ChosenBy
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.directions.fitting.registry import METHODS
from ganinv.errors import ConfigError

AnyMethod = Annotated[DirectionMethod, ChosenBy("method", METHODS)]
"""A field that is the configuration of any method: ``{method: sefa, components: 4}``."""


class DirectionFits:
    """Several methods on the same samples.

    Args:
        prefix: of the directions' names in the store, to keep those of one fit apart from another's.

    Raises:
        ConfigError: settings that do not fit the samples, or two methods that make a direction of the same name.
    """

    def __init__(self, methods: Sequence[DirectionMethod], context: FitContext, prefix: str = "") -> None:
        self.context, self.prefix = context, prefix
        self._method_of: dict[str, DirectionMethod] = {}
        for method in methods:
            for name in method.names(context):
                if name in self._method_of:
                    raise ConfigError(
                        f"{self._method_of[name].method} and {method.method} both make a direction {name!r}; fit one of them "
                        "in a step of its own, with a prefix"
                    )
                self._method_of[name] = method
        self._fits: dict[int, Fit] = {}

    @property
    def names(self) -> list[str]:
        """What is made, in order, without the prefix."""
        return list(self._method_of)

    def fit(self, name: str) -> Direction:
        """One of ``names``.

        Raises:
            DataError: it cannot be fitted; the others may be.
        """
        method = self._method_of[name]
        if id(method) not in self._fits:
            self._fits[id(method)] = method.fit(self.context)
        direction = self._fits[id(method)](name)
        direction.report["labels"] = {
            "labeller": self.context.origin.get("labeller"),
            "sha256": self.context.origin.get("labeller_sha256"),
            "column": self.context.columns.get(name),
        }
        return replace(direction, name=f"{self.prefix}{direction.name}")
