"""Names that become object keys: checked when a person chose them, quoted when they came from data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

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
    if name in (".", ".."):  # the only names of plain letters that lead elsewhere
        name = name.replace(".", "%2E")
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


_SIGNED = {"x-amz-signature", "x-amz-security-token", "x-goog-signature", "sig", "signature", "access_token", "token"}


def no_secrets(value: Any, what: str) -> Any:
    """``value`` itself when no URL in it (a string, or anywhere in mappings and lists) carries a password or a signature.

    What a run is configured with is written into its plan, into every Parquet file and into Prefect's data base.

    Raises:
        ConfigError: one does. The message shows no secret.
    """
    for text in _strings(value):
        if "://" in text:
            parts = urlsplit(text)
            signed = {key.lower() for key, _ in parse_qsl(parts.query)} & _SIGNED
            if ("@" in parts.netloc and ":" in parts.netloc.rpartition("@")[0]) or signed:
                raise ConfigError(
                    f"{what}: the URL {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} carries a password or "
                    "a signature, which would be written into plans and tables: give credentials in the environment "
                    "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3), or use the machine's cloud identity"
                )
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
