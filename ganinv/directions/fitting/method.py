"""``DirectionMethod``: the base of every method to find directions. A new one is one file here and a line in ``registry``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext

Fit = Callable[[str], Direction]
"""Fits one direction by its name. ``DataError``: this one cannot be fitted, but others may be."""


class DirectionMethod(StrictModel, ABC):
    """The configuration of one method, which fits itself.

    ``method`` is the name in the registry; a subclass narrows it to ``Literal["its-name"] = "its-name"``.
    """

    method: str

    @abstractmethod
    def names(self, context: FitContext) -> list[str]:
        """Names of the directions it would fit on these samples, in order. Cheap: nothing is fitted.

        Raises:
            ConfigError: settings that do not fit the samples.
        """

    @abstractmethod
    def fit(self, context: FitContext) -> Fit:
        """Prepare to fit. What several directions share is computed once, when the first of them needs it."""
