"""A direction at a glance: the same samples under edits of growing strength, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.errors import ConfigError
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.report.images import pixels

STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
TRUNCATION = 0.7

_CELL, _GAP, _MARGIN = 112, 4, 12
_INK, _MUTED, _PAPER, _MARK = (24, 24, 27), (113, 113, 122), (255, 255, 255), (37, 99, 235)


def direction_strips(
    generator: Generator,
    direction: Direction,
    strengths: Sequence[float] = STRENGTHS,
    *,
    samples: int = 8,
    seed: int = 0,
    trust: bool = False,
) -> bytes:
    """PNG bytes of a picture with one row per sample and one column per strength; the unedited column is framed.

    Args:
        strengths: in units of the direction; 0 is added if it is missing.
        seed: of the samples, which are truncated to 0.7.
        trust: show a direction even if its generator was only stated.

    Raises:
        GeneratorMismatch: the direction belongs to another generator.
        ConfigError: it does not fit this one, or there is nothing to show.
    """
    columns = sorted({0.0, *(float(s) for s in strengths)})
    if samples < 1 or len(columns) < 2 or not np.isfinite(columns).all():
        raise ConfigError(f"a strip needs a sample and a strength other than 0, got {samples} and {list(strengths)}")
    images = _images(generator, direction, columns, samples, seed, trust)
    font, small = ImageFont.load_default(17), ImageFont.load_default(13)
    step = _CELL + _GAP
    top = _MARGIN + 64
    width = 2 * _MARGIN + len(columns) * step - _GAP
    sheet = Image.new("RGB", (width, top + samples * step - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 2), _fit(_title(direction), font, width - 2 * _MARGIN), _INK, font)
    draw.text((_MARGIN, _MARGIN + 21), _fit(_meaning(direction), small, width - 2 * _MARGIN), _MUTED, small)
    for column, strength in enumerate(columns):
        x = _MARGIN + column * step
        label = "unedited" if strength == 0 else f"{strength:+g}"
        draw.text((x + _CELL / 2, top - 10), label, _MARK if strength == 0 else _INK, small, anchor="mm")
        for row in range(samples):
            sheet.paste(Image.fromarray(images[column][row]).resize((_CELL, _CELL), _RESAMPLE), (x, top + row * step))
        if strength == 0:
            draw.rectangle((x - 2, top - 2, x + _CELL + 1, top + samples * step - _GAP + 1), outline=_MARK, width=2)
    sink = io.BytesIO()
    sheet.save(sink, "PNG", optimize=True)
    return sink.getvalue()


_RESAMPLE = Image.Resampling.LANCZOS


def _images(
    generator: Generator, direction: Direction, strengths: Sequence[float], samples: int, seed: int, trust: bool
) -> list[np.ndarray]:
    """uint8 [samples, R, R, 3] for each strength."""
    z = sample_z(seed, range(samples), generator.z_dim).to(generator.device)
    with torch.no_grad():
        code = Code(w=generator.map_all(z, truncation_psi=TRUNCATION), z=z)
    name = direction.name
    # The reference in an edit has no version: the direction is the one that is given.
    trusted = (name,) if trust else ()
    images = []
    for strength in strengths:
        # In an absolute direction strength 0 is an edit too; the unedited column shows the samples as they are.
        edited = (
            code
            if strength == 0
            else Edit({name: strength}, trust=trusted).apply(code, {name: direction}, generator=generator)
        )
        images.append(pixels(generator.render(edited)))
    return images


def _title(direction: Direction) -> str:
    version = "" if direction.version is None else f"@{direction.version}"
    rows = "" if direction.layers is None else f", rows {direction.layers[0]}-{direction.layers[1] - 1}"
    return f"{direction.name}{version}: {direction.method} in {direction.space}{rows}, {direction.generator_name}"


def _meaning(direction: Direction) -> str:
    step = direction.unit * float(np.linalg.norm(np.atleast_2d(direction.vector), axis=1).mean())
    return f"positive: {direction.positive_means or 'not stated'}; one step moves {step:.3g} in {direction.space}"


def _fit(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """The text, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
