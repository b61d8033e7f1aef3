"""An inversion on the table: what it renders, as it is and edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.errors import ConfigError
from ganinv.generators.channels import as_rgb
from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader

Strengths = Mapping[str, float]
"""Direction -> strength, in its units."""


@dataclass(frozen=True)
class Subject:
    """The code of one image.

    Args:
        image_id: of it; ``latents``: the collection that it is a row of, or will be where it is saved.
        method: that made it. code: on the CPU, of one image.
        reader: what an edit of it is (``CodeReader.after_edit``). photo: [1, C, R, R] in [-1, 1], where that looks at it.
        picture: the photo as people are shown it, square; None if it is gone.
        facts: numbers of its row, or of its inversion, by name.
        unsaved: it is not a row yet.
    """

    image_id: str
    latents: str
    method: str
    code: Code = field(repr=False)
    generator: Generator = field(repr=False)
    reader: CodeReader = field(repr=False)
    photo: Tensor | None = field(default=None, repr=False)
    picture: Image.Image | None = field(default=None, repr=False)
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    unsaved: bool = False

    @cached_property
    def plain(self) -> Image.Image:
        """The inversion."""
        return self._rendered(self.code)

    def edited(self, strengths: Strengths, directions: Mapping[str, Direction]) -> Image.Image:
        """The inversion after an edit, with its tuned weights and features; the inversion, where no strength is other than 0.

        Raises:
            ConfigError: an unknown direction, or one that does not fit the code, or an edit that looks at a photo that is gone.
        """
        moves = {name: float(strength) for name, strength in strengths.items() if strength}
        if not moves:
            return self.plain
        if self.reader.edits_need_images and self.photo is None:
            raise ConfigError(
                f"an edit of what {self.method} made looks at the photo again, and the photo of {self.image_id!r} is gone: take "
                "another method"
            )
        with torch.no_grad():
            moved = Edit(moves).apply(self.code, directions, generator=self.generator)
            return self._rendered(self.reader.after_edit(self.photo, self.code, moved))

    def saved(self) -> Subject:
        """The same, as a row."""
        return replace(self, unsaved=False)

    @torch.no_grad()
    def _rendered(self, code: Code) -> Image.Image:
        return to_picture(self.generator.render(code.to(self.generator.device)).cpu())


def to_picture(image: Tensor) -> Image.Image:
    """An image [1, C, R, R] in [-1, 1] as people see it."""
    pixels = ((as_rgb(image)[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
