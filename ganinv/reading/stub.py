"""The placeholder in the tree for everything that is not a tensor, an array or a plain container. Stubs do nothing."""

from __future__ import annotations

import sys
from typing import Any

from ganinv.errors import WeightsRefused

# Standard-library classes that only hold data. Any other call into the standard library has no place in a checkpoint.
_DATA = {
    "argparse": {"Namespace"},
    "collections": {"Counter", "deque", "ChainMap", "UserDict", "UserList"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "optparse": {"Values"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "types": {"SimpleNamespace"},
    "uuid": {"UUID"},
    "builtins": {"range", "slice", "object", "int", "float", "bool", "str", "bytes"},
}
_DATA["__builtin__"] = _DATA["builtins"] | {"long", "unicode", "xrange"}
_DATA["pathlib._local"] = _DATA["pathlib"]
_PYTHON_2 = {"__builtin__", "commands", "copy_reg", "cPickle", "popen2", "urllib2", "exceptions", "UserDict"}


def brief(value: object) -> str:
    """A value for an error message: numbers and short texts as they are, otherwise only the type."""
    if value is None or type(value) in (bool, int, float, str):
        return f"{value!r:.60}"
    return f"a {type(value).__name__}"


class GlobalName:
    """A name that a pickle mentions (``module.name``). It is never imported."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"[:200]

    def __repr__(self) -> str:
        return f"<name {self.path}>"

    def refuse_call(self) -> None:
        """Refuse a name that has no business in a checkpoint: loading the file in the ordinary way would call it."""
        top = self.module.split(".")[0]
        if top not in sys.stdlib_module_names and top not in _PYTHON_2:
            return
        if self.name in _DATA.get(self.module, ()):
            return
        raise WeightsRefused(
            f"loading it would call {self.path}, which is not part of any checkpoint: the file may be an attack; "
            "nothing was run"
        )


class Stub:
    """An object of a class that is not rebuilt: what it is, what it was made from, and what it contained.

    Attributes:
        cls: path of the class, or of the function that would have made it (``argparse.Namespace``).
        args, kwargs: arguments of that call.
        state: what ``__setstate__`` would have received; usually the instance's ``__dict__``.
        items: entries that were set (in a dict subclass). elements: values that were appended (in a list subclass).
    """

    __slots__ = ("args", "cls", "elements", "items", "kwargs", "state")

    def __init__(self, cls: str, args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = kwargs or {}
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    @property
    def attributes(self) -> dict[Any, Any]:
        """The instance's ``__dict__`` (with ``__slots__`` values, if it had any); empty if there is none."""
        if isinstance(self.state, dict):
            return self.state
        if isinstance(self.state, tuple) and len(self.state) == 2:
            parts = [part for part in self.state if isinstance(part, dict)]
            return {k: v for part in parts for k, v in part.items()}
        return {}

    def __repr__(self) -> str:
        return f"<stub of {self.cls}>"
