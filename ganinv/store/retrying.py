"""Trying again what storage did not answer, with growing pauses."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ganinv.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("ganinv.store")

PAUSES = [0.5, 1.0, 2.0, 4.0, 8.0]
"""Seconds before each new try. The clients of cloud storage try a few times themselves, within seconds; a server that
restarts, or asks to slow down, needs longer."""


def with_retries(call: Callable[P, R]) -> Callable[P, R]:
    """``call``, repeated after a pause while it raises :class:`~ganinv.errors.Unavailable`. It must be safe to repeat."""

    @functools.wraps(call)
    def trying(*args: P.args, **kwargs: P.kwargs) -> R:
        for pause in PAUSES:
            try:
                return call(*args, **kwargs)
            except Unavailable as error:
                seconds = pause * random.uniform(0.5, 1.5)  # many workers must not come back at the same moment
                _log.warning("%s (tried again in %.1f s)", error, seconds)
                time.sleep(seconds)
        return call(*args, **kwargs)

    return trying
