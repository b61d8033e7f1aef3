"""Render stored inversions, and edits of them, to files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data.png import png_bytes
from ganinv.editing import Edit, Response, parse_edit
from ganinv.editing.calibrated import find_multiples
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.labels.base import Labeller
from ganinv.records import CodeReader
from ganinv.store import Collection, Store, open_store
from ganinv.store.local import replace_file
from ganinv.store.names import quoted_id
from tasks.engine import default_device
from tasks.generator_check import check_generator
from tasks.records import Sources, load_sources
from tasks.sources import sources_of

_log = logging.getLogger("ganinv.render")

STRIP = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""The columns of a strip, in parts of an edit."""


def render_latents(
    store: str,
    name: str,
    out: Path,
    ids: Sequence[str] | None,
    generator_uri: str,
    edits: Sequence[str] = (),
    strip: bool = False,
    encoders: Mapping[str, str] | None = None,
    needed: Mapping[str, str] | None = None,
    labeller: str = "portraits-64",
) -> int:
    """Render rows of ``latents/<name>`` into the folder ``out``. Returns how many files were written.

    Files are ``<image id>.png``, and ``<image id>@smile=2,age=-1.png`` for each of the ``edits``; or, as a strip,
    ``<image id>@strip.png``: one line per edit, from its opposite over the unedited image to the whole edit.

    Args:
        edits: as ``ganinv edit`` takes them: ``smile=2,age=-1``, ``smile=1sd``.
        encoders: where inverters are now, by name, if not where they were. needed: by role, what these start from.
        labeller: whose scores are followed where an edit states the change of one.

    Raises:
        ConfigError: a strip without edits, a text that is not an edit, an unknown direction, or a score that the labeller lacks.
        DataError: edits of this method look at the photo again, and it is gone.
        StoreError: no such collection or image.
        GeneratorMismatch: the collection is of another generator.
    """
    if strip and not edits:
        raise ConfigError("a strip shows edits: give at least one, such as --edit smile=2")
    parsed = [Edit(parse_edit(text)) for text in edits]
    root, collection, generator = open_latents(store, name, generator_uri)
    reader = CodeReader(root, collection, generator, encoders=encoders, needed=needed).check(edits=bool(edits))
    scores = open_labeller(labeller).to(generator.device) if any(edit.responses for edit in parsed) else None
    photos = sources_of(collection, root) if edits and reader.edits_need_images else None
    written = 0
    for batch in collection.scan(ids=ids, batch_size=16):
        table = pa.Table.from_batches([batch])
        # One at a time: their extras may differ in shape, and edits of one image share its weights.
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            code = reader.codes(table, [row])
            photo = None if photos is None else _photo(photos, reader, image_id)
            image = _Image(image_id, code, photo, reader, scores)
            images = _strip(image, parsed) if strip else _each(image, parsed)
            for suffix, picture in images.items():
                replace_file(str(out / f"{quoted_id(image_id)}{suffix}.png"), png_bytes(picture), sync=False)
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


@dataclass(frozen=True)
class _Image:
    """One stored inversion, and what its edits need: its photo [1, 3, R, R], and a labeller where strengths are to be found."""

    id: str
    code: Code
    photo: Tensor | None
    reader: CodeReader
    labeller: Labeller | None

    def edited(self, edit: Edit, parts: Sequence[float]) -> list[Code]:
        """The code after some parts of an edit: 1 is all of it, 0 none."""
        return [
            self._moved(one) if part else self.code for part, one in zip(parts, self._found(edit, parts), strict=True)
        ]

    def _found(self, edit: Edit, parts: Sequence[float]) -> list[Edit]:
        """Parts of an edit whose strengths are numbers; a change of a score is looked for by rendering and scoring."""
        if self.labeller is None or not edit.responses:
            return [Edit({name: part * s for name, s in edit.strengths.items()}) for part in parts]  # type: ignore[operator]
        reader = self.reader
        found = find_multiples(edit, parts, self.code, reader.store, reader.generator, self.labeller, after=self._after)
        for part, one in zip(parts, found, strict=True):
            if one.outcome[0] != "reached":
                _log.warning("%s: %s times %s: %s", self.id, part, _written(edit), one.outcome[0].replace("_", " "))
        return [one.edit for one in found]

    def _moved(self, edit: Edit) -> Code:
        moved = edit.apply(self.code, self.reader.store, generator=self.reader.generator)
        return self.reader.after_edit(self.photo, self.code, moved)

    def _after(self, lanes: Tensor, code: Code, edited: Code) -> Code:
        photo = None if self.photo is None else self.photo.expand(len(lanes), -1, -1, -1)
        return self.reader.after_edit(photo, code, edited)

    def render(self, codes: Sequence[Code]) -> Tensor:
        """Codes of the image; what they share stays one tensor, so that tuned weights are applied once."""
        generator = self.reader.generator
        return generator.render(Code.cat(codes).to(generator.device)).cpu()


def _each(image: _Image, edits: Sequence[Edit]) -> dict[str, Tensor]:
    """File name suffix -> picture [3, R, R]: the unedited image, and one per edit."""
    codes = [image.code, *(image.edited(edit, [1.0])[0] for edit in edits)]
    suffixes = ["", *("@" + quote(_written(edit), safe="=,()@") for edit in edits)]
    return dict(zip(suffixes, image.render(codes), strict=True))


def _strip(image: _Image, edits: Sequence[Edit]) -> dict[str, Tensor]:
    """One picture [3, R * edits, R * 5]."""
    images = image.render([code for edit in edits for code in image.edited(edit, STRIP)])
    lines = images.unflatten(0, (len(edits), len(STRIP))).permute(2, 0, 3, 1, 4)  # [3, edits, R, 5, R]
    return {"@strip": lines.flatten(3, 4).flatten(1, 2)}


def _written(edit: Edit) -> str:
    return ",".join(f"{name}={s if isinstance(s, Response) else format(s, 'g')}" for name, s in edit.strengths.items())
