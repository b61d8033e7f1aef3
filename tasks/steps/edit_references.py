"""Edits by a reference: another image, read once, and the editor that takes attributes over from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import fsspec
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data import decode_image, to_resolution
from ganinv.data.decode import ImageRefused
from ganinv.errors import ConfigError
from ganinv.generators.channels import as_channels
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.store import Store
from tasks.framing import lacks_face


class ReferenceEdit(Protocol):
    """An edit as it is read here."""

    @property
    def name(self) -> str: ...

    @property
    def reference(self) -> str | None: ...

    @property
    def attributes(self) -> tuple[str, ...]: ...

    @property
    def editor(self) -> str: ...


class EditsByReference(Protocol):
    """A job with such edits. ``encoders``: where an editor is, by the name that an edit calls it."""

    @property
    def edits(self) -> Iterable[ReferenceEdit]: ...

    @property
    def encoders(self) -> Mapping[str, str]: ...

    @property
    def needed(self) -> Mapping[str, str]: ...


class References:
    """The references of a job's edits, as codes.

    Raises:
        ConfigError: an image that cannot be read, or an editor that knows nothing of references, or not these attributes.
    """

    def __init__(self, job: EditsByReference, store: Store, generator: Generator) -> None:
        self.generator = generator
        self._editors: dict[str, Inverter] = {}
        self._codes: dict[str, Code] = {}
        self._hashes: dict[str, str] = {}
        for spec in job.edits:
            if spec.reference is None:
                continue
            if spec.editor not in self._editors:
                uri = job.encoders.get(spec.editor, spec.editor)
                self._editors[spec.editor] = open_inverter(uri, generator=generator, store=store, needed=job.needed)
            self._add(spec)

    def _add(self, spec: ReferenceEdit) -> None:
        editor = self._editors[spec.editor]
        if not editor.edits_by_reference:
            raise ConfigError(
                f"edit {spec.name!r}: {spec.editor!r} is a {editor.cfg.kind}, which takes nothing over from references; name an "
                "editor that does, such as one trained by: ganinv train portraits-64-reference-editor"
            )
        assert spec.reference is not None
        image, self._hashes[spec.name] = read_reference(spec.reference, self.generator, editor.photo_side)
        with torch.no_grad():
            code = editor.reference_code(image)
            editor.edit_by_reference(code, code, spec.attributes)  # refuses attributes that it does not know
        self._codes[spec.name] = code

    def state(self) -> dict[str, Any]:
        """What the plan holds of them: other images, or another editor, are another run."""
        if not self._codes:
            return {}
        prints = {name: editor.fingerprint for name, editor in self._editors.items()}
        return {"references": self._hashes, "editors": prints}

    @torch.no_grad()
    def edited(self, code: Code, spec: ReferenceEdit) -> Tensor:
        """w [B, num_ws, w_dim] of codes with the reference's attributes, at strength 1."""
        device = self.generator.device
        editor, reference = self._editors[spec.editor], self._codes[spec.name]
        return editor.edit_by_reference(code.to(device), reference, spec.attributes).w.to(code.w.device)


def read_reference(uri: str, generator: Generator, photo_side: int = 0) -> tuple[Tensor, str]:
    """An image as the generator takes it, [1, C, R, R] in [-1, 1], and the sha256 of its file.

    Args:
        photo_side: pixels that are read at most usefully; by default those that the generator makes.

    Raises:
        ConfigError: no image there, one that cannot be decoded, or one without a face where the generator makes faces and a
            detector is installed.
    """
    try:
        fs, path = fsspec.url_to_fs(uri)
        data = bytes(fs.cat_file(path))
        image = to_resolution(decode_image(data), max(photo_side, generator.resolution))
    except (OSError, ImageRefused) as error:
        raise ConfigError(f"the reference {uri} cannot be read: {error}; give an image file") from error
    if lacks_face(image[None], generator):
        raise ConfigError(f"no face was found in the reference {uri}: give an aligned photo of one")
    pixels = as_channels(image[None], generator.img_channels).to(generator.device)
    return pixels, hashlib.sha256(data).hexdigest()
