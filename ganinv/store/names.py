"""Names that become object keys: checked when a person chose them, quoted when they came from data."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from ganinv.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST = 180  # file systems take 255 bytes a name; suffixes and temporary names need room


def checked_name(what: str, name: str) -> str:
    """``name`` itself when it is one plain path segment, else a :class:`ConfigError`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what} {name!r} cannot be used as a name in the store: use 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def quoted_id(image_id: str) -> str:
    """A file name for any image id, without path separators; different ids get different names.

    Everything but letters, digits, ``_``, ``-`` and ``.`` is percent-quoted. A long name is cut and ends in ``~`` and
    its sha256: a ``~`` of an id itself is always quoted, so the two forms cannot meet.
    """
    name = quote(image_id, safe="").replace("~", "%7E")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 65]}~{hashlib.sha256(image_id.encode()).hexdigest()}"


def checked_path(path: str) -> str:
    """A relative object path read from a table: refused when it would leave the store."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(
            f"{path!r} is not a path inside the store: expected one such as 'latents/name/extras/id.safetensors'"
        )
    return path
