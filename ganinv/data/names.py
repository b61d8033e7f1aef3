"""Names of files as text that every table, plan and terminal can hold. A file system's names are bytes, and not all are UTF-8."""

from __future__ import annotations

from urllib.parse import quote

_MARK = "\0"
"""No file name has it, so a name that was escaped is told from one that happens to look so."""


def clean_id(name: str) -> str:
    """A file name as text that every table can hold: bytes that are not UTF-8 become ``\\xNN``."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def to_text(name: str) -> str:
    """A name as text that :func:`from_text` gives back exactly; a name that is text already stays as it is."""
    if name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name):
        return name
    return _MARK + name.encode("unicode_escape").decode("ascii")


def from_text(text: str) -> str:
    """The name that :func:`to_text` was given."""
    return text[1:].encode("ascii").decode("unicode_escape") if text.startswith(_MARK) else text


def local_uri(path: str) -> str:
    """A local path as people write it; one that is not text as a ``file://`` URI, where every byte has a place (RFC 8089)."""
    return path if to_text(path) is path else "file://" + quote(path.encode("utf-8", "surrogateescape"))
