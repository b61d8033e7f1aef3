"""The generator of an imported direction: no published file says which it is, so the user does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ganinv.directions.direction import UNVERIFIED, rows_of
from ganinv.errors import ConfigError

if TYPE_CHECKING:
    from ganinv.generators.stylegan2 import Generator


@dataclass(frozen=True)
class DeclaredGenerator:
    """What an importer has to know of a generator.

    Args:
        name: for people, such as ``stylegan2-ffhq``.
        resolution: of its images, a power of two; gives the rows of W+ and the layers of S.
        w_dim, z_dim: sizes of W and Z.
        fingerprint: of its weights; ``UNVERIFIED`` when they are not at hand.
        widths: (layer name, channels) of S in order of use; empty takes those of config F (Karras et al. 2020).
        w_mean: mean of W [w_dim], empty when the weights are not at hand.
    """

    name: str
    resolution: int
    w_dim: int = 512
    z_dim: int = 512
    fingerprint: str = UNVERIFIED
    widths: tuple[tuple[str, int], ...] = ()
    w_mean: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.resolution < 4 or not math.log2(self.resolution).is_integer():
            raise ConfigError(
                f"generator {self.name!r}: resolution must be a power of two of at least 4, got {self.resolution}"
            )

    @classmethod
    def of(cls, generator: Generator) -> DeclaredGenerator:
        """A generator whose weights are at hand."""
        widths = tuple((name, layer.weight.shape[1]) for name, layer, _ in generator.synthesis.layers())
        cfg = generator.cfg
        mean = tuple(generator.w_mean.double().cpu().tolist())
        return cls(generator.name, cfg.resolution, cfg.w_dim, cfg.z_dim, generator.fingerprint, widths, mean)

    @property
    def num_ws(self) -> int:
        """Rows of W+."""
        return rows_of(self.resolution)

    @property
    def style_layers(self) -> tuple[tuple[str, int], ...]:
        """(layer name, channels) of S in order of use, as ``Generator.style_names`` has them (StyleSpace, table 1)."""
        if self.widths:
            return self.widths
        layers = [("convs.0", _width(4)), ("torgbs.0", _width(4))]
        for b in range(1, self.num_ws // 2):
            r = 4 * 2**b
            layers += [
                (f"convs.{2 * b - 1}", _width(r // 2)),
                (f"convs.{2 * b}", _width(r)),
                (f"torgbs.{b}", _width(r)),
            ]
        return tuple(layers)

    def __str__(self) -> str:
        return f"{self.name!r} (resolution {self.resolution}, {self.num_ws} rows of {self.w_dim})"


def _width(resolution: int) -> int:
    """Channels of config F at a resolution."""
    return min(512, 32768 // resolution)
