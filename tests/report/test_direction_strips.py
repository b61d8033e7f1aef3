from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ganinv.codes.code import Code
from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.report.direction_strips import direction_strips
from ganinv.report.images import pixels
from tests.tiny import tiny_generator

CELL, STEP, LEFT, TOP = 112, 116, 12, 76


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator()


def direction(g: Generator, **more: object) -> Direction:
    vector = np.random.default_rng(0).normal(size=16)
    given: dict = {"space": "w", "generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    return Direction("smile", vector, **{**given, **more})  # type: ignore[arg-type]


def cells(png: bytes, rows: int, columns: int) -> np.ndarray:
    """[rows, columns, CELL, CELL, 3] of a sheet."""
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert sheet.shape[1] == 2 * LEFT + columns * STEP - 4
    return np.stack(
        [[sheet[TOP + r * STEP :, LEFT + c * STEP :][:CELL, :CELL] for c in range(columns)] for r in range(rows)]
    )


@pytest.mark.seconds
def test_rows_are_samples_and_columns_are_strengths(g: Generator) -> None:
    d = direction(g, unit=2.0, positive_means="a smile", version=3)
    got = cells(direction_strips(g, d, (2.0, -1.0), samples=3, seed=4), 3, 3)
    z = sample_z(4, range(3), 16)
    w = g.map(z, truncation_psi=0.7)
    for column, strength in enumerate((-1.0, 0.0, 2.0)):
        for row, image in enumerate(pixels(g.render(Code(d.apply(w, strength) if strength else w)))):
            want = np.asarray(Image.fromarray(image).resize((CELL, CELL), Image.Resampling.LANCZOS))
            assert np.array_equal(got[row, column], want)
    assert direction_strips(g, d, (2.0, -1.0), samples=3, seed=4) == direction_strips(
        g, d, (-1, 0, 2), samples=3, seed=4
    )


@pytest.mark.parametrize(
    "more",
    [
        {"space": "z"},
        {"space": "s", "style_layers": (("convs.1", 16),)},
        {"mode": "absolute", "layers": (2, 5)},
        {"method": "a very long name of a method that does not fit into the width of the sheet by any means " * 2},
    ],
)
def test_any_direction_can_be_shown(g: Generator, more: dict) -> None:
    got = cells(direction_strips(g, direction(g, **more), (5.0,), samples=2), 2, 2)
    assert (got[:, 0] != got[:, 1]).any((1, 2, 3)).all()


def test_what_cannot_be_shown(g: Generator) -> None:
    with pytest.raises(GeneratorMismatch, match="used with tiny"):
        direction_strips(g, direction(g, generator_fingerprint="0" * 64))
    stated = replace(direction(g), generator_fingerprint=UNVERIFIED)
    with pytest.raises(GeneratorMismatch, match="without its weights"):
        direction_strips(g, stated)
    assert direction_strips(g, stated, (1.0,), samples=1, trust=True)
    for strengths, samples in (((0.0,), 8), ((), 8), ((1.0,), 0), ((float("nan"),), 8)):
        with pytest.raises(ConfigError, match="a strip needs"):
            direction_strips(g, direction(g), strengths, samples=samples)
