"""Find the column of a Parquet file that holds images. If none does, the message says what each holds and what to do."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from ganinv.data.kinds import begins_as_image, is_image
from ganinv.errors import DataError, did_you_mean

USUAL_NAMES = ("image", "img", "image_bytes", "image_png", "png", "jpg", "jpeg", "bytes")
_URL_SAFE = str.maketrans("-_", "+/")
_DATA_URI = re.compile(r"data:[\w.+-]*/[\w.+-]*(;[\w=.+-]+)*;base64,")

Sample = Callable[[str], list[Any]]
"""The first values of a column that are not null."""


def image_column(schema: pa.Schema, asked: str | None, uri: str, sample: Sample) -> str:
    """The column to read.

    Raises:
        DataError: none, or several; it says what the columns hold.
    """
    possible = [field.name for field in schema if _holds_bytes(field.type)]
    there = f"columns that can hold images: {_list(possible) or 'none'}"
    if asked is not None:
        if asked not in schema.names:
            hint = did_you_mean(asked, possible or schema.names)
            raise DataError(f"{uri} has no image column {asked!r}{hint}; {there}")
        what = what_is_in(schema.field(asked), sample)
        if what is not None:
            raise DataError(f"{uri} has no images in its column {asked!r}: {what}")
        return asked
    usual = [name for name in USUAL_NAMES if name in possible]
    if usual or len(possible) == 1:
        return usual[0] if usual else possible[0]
    if possible:
        shown = [name for name in possible if _shows_images(sample(name))]
        if len(shown) == 1:
            return shown[0]
        raise DataError(f"cannot tell which column of {uri} holds the images: name it with --image-column; {there}")
    others = {field.name: what_is_in(field, sample) for field in schema if _may_hold(field)}
    found = [name for name, what in others.items() if what is None]
    usual = [name for name in USUAL_NAMES if name in found]
    if usual or len(found) == 1:
        return usual[0] if usual else found[0]
    if found:
        raise DataError(f"several columns of {uri} hold images, {_list(found)}: name one with --image-column")
    told = "; ".join(f"{name!r} {what}" for name, what in others.items())
    raise NoImages(f"no column of {uri} holds images; {there}; {told or f'there are: {_list(schema.names)}'}")


class NoImages(DataError):
    """A table without any column of images: maybe what somebody knows about images that lie beside it."""


def image_bytes(value: Any) -> bytes | str | None:
    """The bytes of one value of an image column; None if there is nothing, and a sentence where there is something else."""
    if isinstance(value, Mapping):
        inner = value.get("bytes")
        if inner is None:
            inner = next((v for v in value.values() if isinstance(v, bytes)), None)
        if inner is None and value.get("path"):
            return f"the row has a path alone ({value['path']}) and no bytes: store the bytes, or name the folder of the files"
        return image_bytes(inner)
    if isinstance(value, str):
        try:
            return base64.b64decode(_plain(value))
        except (binascii.Error, ValueError) as error:
            return f"the row is not base64 ({error})"
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            try:
                return bytes(value)
            except ValueError:
                return "the row is a list of numbers that are not bytes"
        return "the row is a list: one image a row is read"
    return value


def what_is_in(field: pa.Field, sample: Sample) -> str | None:
    """None for images; else what the column holds, and what to do."""
    if _holds_bytes(field.type):
        return None
    kind = field.type
    if _is_list(kind):
        inner = kind.value_type
        if kinds.is_integer(inner):
            values = sample(field.name)
            good = bool(values) and all(begins_as_image(_as_bytes(value)) for value in values)
            return (
                None if good else "holds lists of numbers that are not an image file: store encoded images (PNG, JPEG)"
            )
        if _holds_bytes(inner):
            return "holds lists of images: store one image a row, such as pandas' DataFrame.explode makes them"
        if _is_list(inner) or kinds.is_floating(inner):
            return "holds arrays of pixels: store encoded images (PNG, JPEG)"
        return f"holds lists of {inner}: no images"
    if kinds.is_map(kind):
        return f"holds dictionaries ({kind}): store the bytes of the image in a column of their own"
    if kinds.is_struct(kind):
        return f"holds dictionaries with {_list([f.name for f in kind])}, none of them bytes of an image"
    if not _is_text(kind):
        return f"holds {kind}"
    return _text(sample(field.name))


def _shows_images(values: list[Any]) -> bool:
    found = [image_bytes(value) for value in values]
    return bool(found) and all(isinstance(data, bytes) and begins_as_image(data[:64]) for data in found)


def _text(values: list[Any]) -> str | None:
    values = [str(value).strip() for value in values]
    if not values:
        return "is empty"
    if all(begins_as_image(_decoded(value)) for value in values):
        return None
    if any(_DATA_URI.match(value) for value in values):
        return "holds data URIs in base64 that are not images Pillow decodes"
    if all(re.match(r"[a-z][a-z0-9+]*://", value) for value in values):
        return f"holds URLs ({values[0]:.60}): download them, and name the folder with --dataset"
    if all(is_image(value) for value in values):
        return f"holds paths of image files ({values[0]:.80}): name their folder with --dataset in place of the table"
    if all(value[:1] in "{[" for value in values):
        return "holds dictionaries or lists written as text: store the bytes of the image in a column of their own"
    if all(re.fullmatch(r"[A-Za-z0-9+/=_-]{64,}", value) for value in values):
        return "holds base64 of something that is not an image"
    return "holds text"


def _decoded(value: str) -> bytes:
    head = _plain(value)[:64]
    try:
        return base64.b64decode(head[: len(head) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _plain(value: str) -> str:
    """Base64 without what tells its kind, in the letters of RFC 4648's first table."""
    return _DATA_URI.sub("", value.strip(), count=1).translate(_URL_SAFE)


def _as_bytes(value: Any) -> bytes:
    try:
        return bytes(value)
    except (ValueError, TypeError):
        return b""


def _may_hold(field: pa.Field) -> bool:
    """Whether it is worth a word: not the numbers, dates and flags beside images."""
    kind = field.type
    return _is_text(kind) or _is_list(kind) or kinds.is_struct(kind) or kinds.is_map(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    if kinds.is_struct(kind):
        index = kind.get_field_index("bytes")
        if index >= 0:
            return _holds_bytes(kind.field(index).type)
        return sum(_holds_bytes(kind.field(k).type) for k in range(kind.num_fields)) == 1
    if kinds.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return any(
        test(kind)
        for test in (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view, kinds.is_fixed_size_binary)
    )


def _is_text(kind: pa.DataType) -> bool:
    if kinds.is_dictionary(kind):
        return _is_text(kind.value_type)
    return any(test(kind) for test in (kinds.is_string, kinds.is_large_string, kinds.is_string_view))


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list))


def _list(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def has_equal(ordered: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a sorted column without nulls has a value twice. Arrow's hash tables are ten times what they count."""
    return bool(pc.any(pc.equal(ordered[1:], ordered[:-1])).as_py())
