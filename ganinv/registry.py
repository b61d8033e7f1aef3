"""Registries: everything that a configuration selects by name. A new entry is one file and one line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

from ganinv.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Names, and where each entry is defined. A module is imported only when its entry is used, so names cost nothing.

    Args:
        what: a noun for messages, such as ``distance``.
        homes: name -> ``package.module:object``, or the object itself.
    """

    def __init__(self, what: str, homes: Mapping[str, T | str]) -> None:
        self.what = what
        self._homes: dict[str, Any] = dict(homes)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the registry."""
        return tuple(self._homes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __getitem__(self, name: str) -> T:
        """The entry of a name.

        Raises:
            ConfigError: an unknown name; the message suggests the nearest one.
        """
        self.check(name)
        entry = self._homes[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._homes[name] = attrgetter(attribute)(importlib.import_module(module))
        return entry  # type: ignore[no-any-return]

    def check(self, name: str) -> str:
        """The name, if there is such an entry; nothing is imported.

        Raises:
            ConfigError: an unknown name.
        """
        if name not in self._homes:
            raise ConfigError(
                f"unknown {self.what} {name!r}{did_you_mean(name, self.names)}; there are: {', '.join(self.names)}"
            )
        return name

    def register(self, name: str, entry: T | str) -> None:
        """Add an entry from outside this package, in this process (and in each worker that imports the caller).

        Raises:
            ConfigError: the name is taken.
        """
        if name in self._homes:
            raise ConfigError(f"there is a {self.what} {name!r} already; choose another name")
        self._homes[name] = entry
