"""``DirectionMethod``: what every way to find directions has in common. A new one is one file here and a line in ``registry``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext

Fit = Callable[[str], Direction]
"""Makes one direction by its name. ``DataError``: this one cannot be fitted, the others may be."""


class DirectionMethod(StrictModel, ABC):
    """The configuration of one way to find directions, which knows how to fit itself.

    ``method`` is the name in the registry; a subclass narrows it to ``Literal["its-name"] = "its-name"``.
    """

    method: str

    @abstractmethod
    def names(self, context: FitContext) -> list[str]:
        """What it makes of these samples, in order: cheap, nothing is fitted.

        Raises:
            ConfigError: settings that do not fit the samples.
        """

    @abstractmethod
    def fit(self, context: FitContext) -> Fit:
        """Make ready to fit: what several directions share is computed once, when the first of them needs it."""
