"""``Direction``: a named way to move in latent space, together with where it came from and what its sign means."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ganinv.errors import ConfigError, DataError, GeneratorMismatch

Space = Literal["z", "w", "w+", "s"]
Mode = Literal["relative", "absolute"]


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of one generator's latent space.

    Args:
        name: what users call it, such as ``smile``.
        vector: float32 [w_dim], the same for every row, or [rows, w_dim], one for each row it moves. Unit norm when it
            was fitted here; imported vectors keep the norm they came with.
        space: where the vector lives. ``apply`` moves rows of W and W+; Z and S vectors are carried, not applied to w.
        generator_name: for people.
        generator_fingerprint: for ``check``: the weights that this direction belongs to.
        method: how it was found, such as ``interfacegan`` or ``ganspace``.
        layers: W+ rows [start, end) it moves; None is all of them.
        unit: distance in W, per row, of one step of strength 1 (for a unit vector).
        mode: ``relative`` adds ``strength * unit * vector``. ``absolute`` sets the coordinate along the vector of each
            edited row to ``strength`` units from ``mean`` (GANSpace's centred form), so applying it twice is applying
            it once.
        positive_means: what a positive strength does, in words. Signs are not standardised between published
            directions.
        intercept: of the separating plane ``w . vector + intercept = 0``, where the method has one.
        mean: float32 [w_dim], the origin of absolute coordinates; None is zero.
        labeller: name and version of the labeller whose scores it was fitted on, where there was one.
        report: JSON-able measurements of the fit.
        version: number in the store; None before it is stored.

    Raises:
        DataError: a vector or range that cannot be used.
    """

    name: str
    vector: np.ndarray
    space: Space
    generator_name: str
    generator_fingerprint: str
    method: str
    layers: tuple[int, int] | None = None
    unit: float = 1.0
    mode: Mode = "relative"
    positive_means: str = ""
    intercept: float | None = None
    mean: np.ndarray | None = None
    labeller: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    version: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", _checked(self.vector, f"direction {self.name!r}", (1, 2)))
        if not np.linalg.norm(self.vector, axis=-1).any():
            raise DataError(f"direction {self.name!r} has a zero vector; a direction must point somewhere")
        if self.mean is not None:
            object.__setattr__(self, "mean", _checked(self.mean, f"mean of direction {self.name!r}", (1,)))
        if self.space not in get_args(Space) or self.mode not in get_args(Mode):
            raise DataError(
                f"direction {self.name!r}: space must be one of {get_args(Space)} and mode one of {get_args(Mode)}, "
                f"got {self.space!r} and {self.mode!r}"
            )
        if not (np.isfinite(self.unit) and self.unit > 0):
            raise DataError(f"direction {self.name!r}: unit must be a positive distance, got {self.unit}")
        if self.layers is not None:
            start, end = int(self.layers[0]), int(self.layers[1])
            if not 0 <= start < end:
                raise DataError(
                    f"direction {self.name!r}: layers must be rows [start, end) with 0 <= start < end, got "
                    f"[{start}, {end}); use None for all rows"
                )
            if self.vector.ndim == 2 and len(self.vector) != end - start:
                raise DataError(
                    f"direction {self.name!r} moves {end - start} rows but its vector has {len(self.vector)}; "
                    "give one vector row for each moved row, or a single vector"
                )
            object.__setattr__(self, "layers", (start, end))

    def apply(self, w: Tensor, strength: float | Tensor) -> Tensor:
        """A new w [B, L, D], edited. Rows outside ``layers`` are bit-identical. See ``step``."""
        return w + self.step(w, strength)

    def step(self, w: Tensor, strength: float | Tensor) -> Tensor:
        """What ``apply`` adds: [B, L, D], zero in the rows that do not move.

        Args:
            w: [B, L, D] in W or W+.
            strength: one for all samples, or [B].

        Raises:
            ConfigError: the direction cannot be applied to a w of this shape, or to any w.
        """
        start, end = self._rows(w)
        strengths = torch.as_tensor(strength, dtype=w.dtype, device=w.device)
        if strengths.ndim > 1 or (strengths.ndim == 1 and len(strengths) != len(w)):
            raise ConfigError(
                f"strength of {self.name!r} must be one number or one for each of the {len(w)} samples, "
                f"got shape {tuple(strengths.shape)}"
            )
        vector = torch.tensor(self.vector).to(w)
        moved = strengths.reshape(-1, 1, 1) * self.unit * vector
        if self.mode == "absolute":
            # Dividing by |v|^2 makes this the coordinate of an orthogonal projection for vectors of any norm.
            rows = w[:, start:end] if self.mean is None else w[:, start:end] - torch.tensor(self.mean).to(w)
            coordinate = (rows * vector).sum(-1, keepdim=True) / vector.square().sum(-1, keepdim=True)
            moved = moved - coordinate * vector
        step = torch.zeros_like(w)
        step[:, start:end] = moved
        return step

    def check(self, fingerprint: str, generator_name: str = "") -> None:
        """Refuse to be used with another generator: its latent space has other axes.

        Raises:
            GeneratorMismatch: ``fingerprint`` is not that of the generator this direction was fitted on.
        """
        if fingerprint != self.generator_fingerprint:
            given = f"{generator_name or 'a generator'} ({fingerprint[:12]})"
            own = f"{self.generator_name} ({self.generator_fingerprint[:12]})"
            raise GeneratorMismatch(
                f"direction {self.name!r} belongs to generator {own} and was brought to {given}; "
                "fit it again on samples of the generator you edit with"
            )

    def with_vector(self, vector: np.ndarray) -> Direction:
        """The same direction along another vector: how attributes are projected out of it."""
        return replace(self, vector=vector)

    def to_record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON-able metadata): what the store writes."""
        arrays = {"vector": self.vector}
        if self.mean is not None:
            arrays["mean"] = self.mean
        metadata = {
            "name": self.name,
            "space": self.space,
            "generator_name": self.generator_name,
            "generator_fingerprint": self.generator_fingerprint,
            "method": self.method,
            "layers": None if self.layers is None else list(self.layers),
            "unit": float(self.unit),
            "mode": self.mode,
            "positive_means": self.positive_means,
            "intercept": None if self.intercept is None else float(self.intercept),
            "labeller": self.labeller,
            "report": copy.deepcopy(self.report),
            "version": self.version,
        }
        return arrays, metadata

    @classmethod
    def from_record(cls, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Direction:
        """What ``to_record`` took apart.

        Raises:
            DataError: a part is missing or unknown.
        """
        parts: dict[str, Any] = {**metadata, **arrays}
        if parts.get("layers") is not None:
            parts["layers"] = tuple(parts["layers"])
        try:
            return cls(**parts)
        except TypeError as error:
            raise DataError(f"this is not the record of a direction: {error}; it has {sorted(parts)}") from None

    def _rows(self, w: Tensor) -> tuple[int, int]:
        """The range of rows of this w that move."""
        if self.space not in ("w", "w+"):
            raise ConfigError(
                f"direction {self.name!r} lives in {self.space!r} and cannot be added to w; use a W or W+ one"
            )
        if w.ndim != 3 or w.shape[2] != self.vector.shape[-1]:
            raise ConfigError(
                f"direction {self.name!r} moves w of shape [batch, rows, {self.vector.shape[-1]}], got {tuple(w.shape)}"
            )
        start, end = self.layers or (0, w.shape[1])
        if end > w.shape[1] or (self.vector.ndim == 2 and len(self.vector) != end - start):
            needed = end if self.layers else len(self.vector)
            raise ConfigError(
                f"direction {self.name!r} needs {needed} rows of w, this code has {w.shape[1]}; "
                "it belongs to a generator of another resolution"
            )
        return start, end


def _checked(value: Any, what: str, ndims: tuple[int, ...]) -> np.ndarray:
    array = np.array(value, dtype=np.float32)
    if array.ndim not in ndims or array.size == 0:
        shapes = " or ".join({1: "[w_dim]", 2: "[rows, w_dim]"}[n] for n in ndims)
        raise DataError(f"{what} must have shape {shapes}, got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{what} has values that are not finite; fit or import it again")
    array.flags.writeable = False
    return array
