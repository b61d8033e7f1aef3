"""Errors a caller may catch. Each message says what was expected, what came, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class GaninvError(Exception):
    """Base of every error that ganinv raises on purpose."""


class ConfigError(GaninvError):
    """A configuration that cannot be used: unknown key, unknown name, value out of range."""


class WeightsRefused(GaninvError):
    """A weight file that cannot be opened: damaged, of an unknown kind, or different from what its record says."""


class GeneratorMismatch(GaninvError):
    """A latent, direction or encoder was used with another generator than its own."""


class NotFinite(GaninvError, ValueError):
    """A result contains NaN or infinity."""


class DataError(GaninvError):
    """A data set or an image that cannot be read."""


class ImageError(DataError):
    """One image that is not used.

    Args:
        code: why, in one word; the code of the image's error row (:attr:`ganinv.store.RowError.code`).
        message: why, as a sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StoreError(GaninvError):
    """The store cannot be read or written."""


class Unavailable(GaninvError):
    """Storage is temporarily unavailable: a time-out, throttling, a broken connection. The same call may succeed later."""


class DataUnavailable(DataError, Unavailable):
    """The storage of a data set is temporarily unavailable."""


class StoreUnavailable(StoreError, Unavailable):
    """A store is temporarily unavailable."""


class RunConflict(StoreError):
    """A run with this name but another configuration already exists."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: ``, did you mean 'smile'?``, or nothing if no known one is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def printable(text: str) -> str:
    """Text of others (a name of a file, another library's words about its bytes) for a line of a message: what would break the
    line, or steer the terminal, is written as its escape, such as ``\\n``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
