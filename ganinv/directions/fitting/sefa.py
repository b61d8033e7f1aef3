"""SeFa: closed-form factorisation of the style weights (Shen and Zhou 2021). No samples, no labels, under a second.

The directions along which the affine maps of the chosen layers stretch a step of w the most are the eigenvectors of A A^T,
where A has the affine weights of those layers side by side, each output unit scaled to length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.ganspace import SIGN_RULE, named, signed
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator

Compat = Literal["genforce", "rosinality", "e4e"]


class SefaConfig(StrictModel):
    """Which layers, and whose reading of them. Published: all rows, 5 components, strengths -3 .. 3."""

    components: int = Field(default=5, ge=1)
    rows: tuple[int, ...] | None = Field(default=None, min_length=1)
    """W+ rows whose layers are factorised and that edits move; None is all."""
    compat: Compat = "genforce"
    """``genforce``: the convolution of each row, for the last row the last toRGB; unit columns. ``rosinality``: all rows
    and always all layers but the higher toRGBs, columns as they are. ``e4e``: convolutions only; edits land one row lower
    than the weights that were factorised, and row 0 is dropped. That is a slip of the original, kept to reproduce it."""


class Sefa(SefaConfig, DirectionMethod):
    """The method ``sefa``: factors ``sefa-00``, ``sefa-01``, ..., named by what they move."""

    method: Literal["sefa"] = "sefa"

    def names(self, context: FitContext) -> list[str]:
        return [f"sefa-{i:02d}" for i in range(self.components)]

    def fit(self, context: FitContext) -> Fit:
        factors = fit_sefa(context.generator, self)
        return lambda name: named(factors.direction(int(name.removeprefix("sefa-")), context.generator), context)


@dataclass(frozen=True)
class Factors:
    """A factorisation.

    Args:
        vectors: float32 [w_dim, w_dim], orthonormal rows, largest eigenvalue first.
        eigenvalues: float32 [w_dim]; of unit columns they sum to the number of columns.
        rows: W+ rows that edits move. layers: names of the layers that were factorised.
    """

    vectors: np.ndarray
    eigenvalues: np.ndarray
    rows: tuple[int, ...]
    layers: tuple[str, ...]
    config: SefaConfig

    def direction(self, index: int, generator: Generator, *, name: str | None = None) -> Direction:
        """One factor as a direction, ``sefa-00`` and so on; strength is the distance in W on each moved row.

        Raises:
            ConfigError: no such factor.
        """
        if not 0 <= index < len(self.vectors):
            raise ConfigError(f"factor must be 0 .. {len(self.vectors) - 1}, got {index}")
        vector, first, end = self.vectors[index], self.rows[0], self.rows[-1] + 1
        whole = self.rows == tuple(range(generator.num_ws))
        if self.rows != tuple(range(first, end)):  # rows with gaps: one vector for each, zero in the gaps
            vector = np.stack([vector if row in self.rows else np.zeros_like(vector) for row in range(first, end)])
        return Direction(
            name=name or f"sefa-{index:02d}",
            vector=vector,
            space="w" if vector.ndim == 1 else "w+",
            generator_name=generator.name,
            generator_fingerprint=generator.fingerprint,
            method="sefa",
            layers=None if whole else (first, end),
            report={
                "component": index,
                "eigenvalue": float(self.eigenvalues[index]),
                "factorised": list(self.layers),
                "compat": self.config.compat,
                "unit_columns": self.config.compat != "rosinality",
                "sign_rule": SIGN_RULE,
            },
        )


def fit_sefa(generator: Generator, config: SefaConfig | None = None) -> Factors:
    """Factorise the affine weights, in float64 on the CPU, rounded to float32: the same on every machine.

    Raises:
        ConfigError: rows or components that the generator does not have.
    """
    config = config or SefaConfig()
    rows = tuple(sorted(set(config.rows))) if config.rows is not None else tuple(range(generator.num_ws))
    if rows[0] < 0 or rows[-1] >= generator.num_ws:
        raise ConfigError(f"this generator has W+ rows 0 .. {generator.num_ws - 1}, got {list(rows)}")
    if config.components > generator.w_dim:
        raise ConfigError(f"W has {generator.w_dim} dimensions and as many factors, got components={config.components}")
    layers = _layers(generator, rows, config.compat)
    shifted = tuple(row - 1 for row in rows if 0 < row < generator.num_ws - 1)  # the last row has no convolution
    moved = {"genforce": rows, "e4e": shifted, "rosinality": tuple(range(generator.num_ws))}[config.compat]
    if not layers or not moved:
        raise ConfigError(f"rows {list(rows)} have no layer that {config.compat} factorises")
    weights = {
        name: layer.affine.weight.detach().double().cpu().numpy() for name, layer, _ in generator.synthesis.layers()
    }
    matrix = np.concatenate([weights[name].T for name in layers], 1)
    if config.compat != "rosinality":
        length = np.linalg.norm(matrix, axis=0)
        matrix = matrix / np.where(length > 0, length, 1.0)
    # eigh, not eig: sorted, real and orthonormal. The original's eig returned them in no order.
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    return Factors(
        signed(vectors.T[::-1]).astype(np.float32),
        values[::-1].clip(min=0).astype(np.float32),
        moved,
        layers,
        config,
    )


def _layers(generator: Generator, rows: tuple[int, ...], compat: Compat) -> tuple[str, ...]:
    last = generator.num_ws - 1
    chosen = []
    for name, _, row in generator.synthesis.layers():
        torgb = name.startswith("torgbs")
        if compat == "rosinality":
            wanted = not torgb or name == "torgbs.0"
        else:
            wanted = row in rows and (not torgb or (compat == "genforce" and row == last))
        if wanted:
            chosen.append(name)
    return tuple(chosen)
