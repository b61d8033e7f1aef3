"""Rendering stored inversions to files, as they are and edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data.png import png_bytes
from ganinv.editing import Edit
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader
from ganinv.store import Collection, Store, open_store
from ganinv.store.names import quoted_id
from tasks.engine import default_device
from tasks.generator_check import check_generator
from tasks.records import Sources, load_sources
from tasks.sources import sources_of

Weights = Mapping[str, float]
"""One edit: direction -> strength, named as in ``ganinv.editing.notation``."""

Edited = Callable[[Weights, float], Code]
"""A code of one image after a part of an edit."""

STRIP = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""The columns of a strip, in parts of an edit."""


def render_latents(
    store: str,
    name: str,
    out: Path,
    ids: Sequence[str] | None,
    generator_uri: str,
    edits: Sequence[Weights] = (),
    strip: bool = False,
    encoders: Mapping[str, str] | None = None,
    needed: Mapping[str, str] | None = None,
) -> int:
    """Render rows of ``latents/<name>`` into the folder ``out``. Returns how many files were written.

    Files are ``<image id>.png``, and ``<image id>@smile=2,age=-1.png`` for each of the ``edits``; or, as a strip,
    ``<image id>@strip.png``: one line per edit, from its opposite over the unedited image to the whole edit.

    Args:
        encoders: where inverters are now, by name, if not where they were. needed: by role, what these start from.

    Raises:
        ConfigError: a strip without edits, or an unknown direction.
        DataError: edits of this method look at the photo again, and it is gone.
        StoreError: no such collection or image.
        GeneratorMismatch: the collection is of another generator.
    """
    if strip and not edits:
        raise ConfigError("a strip shows edits: give at least one, such as --edit smile=2")
    root, collection, generator = open_latents(store, name, generator_uri)
    reader = CodeReader(root, collection, generator, encoders=encoders, needed=needed).check(edits=bool(edits))
    photos = sources_of(collection, root) if edits and reader.edits_need_images else None
    written = 0
    for batch in collection.scan(ids=ids, batch_size=16):
        table = pa.Table.from_batches([batch])
        # One at a time: their extras may differ in shape, and edits of one image share its weights.
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            code = reader.codes(table, [row])
            photo = None if photos is None else _photo(photos, reader, image_id)
            edited = partial(_edited, code, photo, reader)
            images = _strip(edited, edits, generator) if strip else _each(edited, edits, generator)
            for suffix, image in images.items():
                out.mkdir(parents=True, exist_ok=True)
                (out / f"{quoted_id(image_id)}{suffix}.png").write_bytes(png_bytes(image))
                written += 1
    return written


def open_latents(store: str, name: str, generator_uri: str) -> tuple[Store, Collection, Generator]:
    """The store, ``latents/<name>``, and the generator that it is of.

    Raises:
        StoreError: no such collection. GeneratorMismatch: it is of another generator.
    """
    root, generator = open_store(store), open_generator(generator_uri, default_device())
    collection = root.latents[name]
    check_generator(collection.provenance(), generator, f"latents {name!r}")
    return root, collection, generator


def _photo(photos: Sources, reader: CodeReader, image_id: str) -> Tensor:
    images, _, errors = load_sources(photos, reader.collection, [image_id], reader.generator, reader.photo_side)
    if errors:
        raise DataError(f"an edit of {image_id!r} looks at its photo again: {errors[0].message}")
    return images


def _each(edited: Edited, edits: Sequence[Weights], generator: Generator) -> dict[str, Tensor]:
    """File name suffix -> image [3, R, R]: the unedited image, and one per edit."""
    codes = [edited({}, 0.0), *(edited(edit, 1.0) for edit in edits)]
    return dict(zip(["", *map(_suffix, edits)], _render(codes, generator), strict=True))


def _strip(edited: Edited, edits: Sequence[Weights], generator: Generator) -> dict[str, Tensor]:
    """One image [3, R * edits, R * 5]."""
    images = _render([edited(edit, part) for edit in edits for part in STRIP], generator)
    lines = images.unflatten(0, (len(edits), len(STRIP))).permute(2, 0, 3, 1, 4)  # [3, edits, R, 5, R]
    return {"@strip": lines.flatten(3, 4).flatten(1, 2)}


def _edited(code: Code, photo: Tensor | None, reader: CodeReader, edit: Weights, part: float) -> Code:
    if part == 0:
        return code
    strengths = {name: part * strength for name, strength in edit.items()}
    return reader.after_edit(photo, code, Edit(strengths).apply(code, reader.store, generator=reader.generator))


def _render(codes: Sequence[Code], generator: Generator) -> Tensor:
    """Codes of one image; what they share stays one tensor, so that tuned weights are applied once."""
    return generator.render(Code.cat(codes).to(generator.device)).cpu()


def _suffix(edit: Weights) -> str:
    return "@" + quote(",".join(f"{name}={strength:g}" for name, strength in edit.items()), safe="=,()@")
