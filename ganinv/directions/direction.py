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
Mode = Literal["relative", "absolute", "absolute-first-row"]
Dtype = Literal["float32", "float64"]
UNVERIFIED = "unverified"
"""The fingerprint of a generator that was stated but not verified: the direction was imported without its weights."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of one generator's latent space.

    Args:
        name: what users call it, such as ``smile``.
        vector: float32 [w_dim], the same for every row, or [rows, w_dim], one for each row it moves; in Z [z_dim]; in S
            the styles of ``style_layers``, one after the other. Unit norm when it was fitted here; imported vectors keep
            the norm they came with.
        space: where the vector lives: ``step`` moves W and W+, ``step_z`` Z, ``style_offsets`` S.
        generator_name: for display.
        generator_fingerprint: of the weights that this direction belongs to, for ``check``; ``UNVERIFIED`` if they were only
            stated.
        method: how it was found, such as ``interfacegan`` or ``ganspace``.
        layers: W+ rows [start, end) it moves; None is all of them.
        unit: distance in W, per row, of one step of strength 1 (for a unit vector).
        mode: ``relative`` adds ``strength * unit * vector``. ``absolute`` sets the coordinate along the vector of each
            edited row to ``strength`` units from ``mean`` (GANSpace's centred form), so applying it twice is applying
            it once. ``absolute-first-row`` reads the coordinate in row 0 and moves all edited rows by the same step, as
            the e4e family's code does: rows that differ from row 0 do not reach the coordinate.
        positive_means: what a positive strength does, in words. Signs are not standardised between published
            directions.
        intercept: of the separating plane ``w . vector + intercept = 0``, where the method has one.
        mean: float32 [w_dim], the origin of absolute coordinates; None is zero.
        labeller: name and version of the labeller whose scores it was fitted on, if any.
        style_layers: in S, the (layer name, channels) that ``vector`` consists of, named as in ``Generator.style_names``.
        generator_resolution: of the generator, if it was stated; its W+ then has 2 log2(resolution) - 2 rows.
        dtype: ``float64`` keeps a vector in the precision of the file it came from.
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
    style_layers: tuple[tuple[str, int], ...] | None = None
    generator_resolution: int | None = None
    dtype: Dtype = "float32"
    report: dict[str, Any] = field(default_factory=dict)
    version: int | None = None

    def __post_init__(self) -> None:
        if self.space not in get_args(Space) or self.mode not in get_args(Mode) or self.dtype not in get_args(Dtype):
            raise DataError(
                f"direction {self.name!r}: space must be one of {get_args(Space)}, mode one of {get_args(Mode)} and dtype "
                f"one of {get_args(Dtype)}, got {self.space!r}, {self.mode!r} and {self.dtype!r}"
            )
        object.__setattr__(self, "vector", _checked(self.vector, f"direction {self.name!r}", (1, 2), self.dtype))
        if not np.linalg.norm(self.vector, axis=-1).any():
            raise DataError(f"direction {self.name!r} has a zero vector; a direction must point somewhere")
        if self.mean is not None:
            object.__setattr__(self, "mean", _checked(self.mean, f"mean of direction {self.name!r}", (1,), self.dtype))
        if not (np.isfinite(self.unit) and self.unit > 0):
            raise DataError(f"direction {self.name!r}: unit must be a positive distance, got {self.unit}")
        self._check_space()
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

    def _check_space(self) -> None:
        if (self.space == "s") != (self.style_layers is not None):
            raise DataError(
                f"direction {self.name!r}: a direction in S, and no other, needs style_layers: the (layer name, channels) "
                f"that its vector consists of; got space {self.space!r} and {self.style_layers}"
            )
        if self.style_layers is not None:
            layers = tuple((str(name), int(channels)) for name, channels in self.style_layers)
            object.__setattr__(self, "style_layers", layers)
            if self.vector.shape != (sum(channels for _, channels in layers),) or len(dict(layers)) != len(layers):
                raise DataError(
                    f"direction {self.name!r}: its layers {layers} do not make up its vector of shape {self.vector.shape}"
                )
        if self.space in ("z", "s"):
            if self.vector.ndim != 1 or self.layers is not None:
                raise DataError(f"direction {self.name!r}: one in {self.space!r} is one vector and has no rows of W+")
            if self.mode == "absolute-first-row" or (self.space == "s" and self.mode != "relative"):
                raise DataError(f"direction {self.name!r}: mode {self.mode!r} is not for directions in {self.space!r}")

    @property
    def num_ws(self) -> int | None:
        """Rows of W+ of its generator, if known."""
        return None if self.generator_resolution is None else rows_of(self.generator_resolution)

    @property
    def verified(self) -> bool:
        """Whether the weights of its generator are known, not just stated."""
        return self.generator_fingerprint != UNVERIFIED

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
        vector = torch.tensor(self.vector).to(w)
        origin = w[:, :1] if self.mode == "absolute-first-row" else w[:, start:end]
        strengths = self._strengths(strength, w)
        # A step that is the same for all samples is kept once: adding it then costs one pass over w.
        count = 1 if self.mode == "relative" and not strengths.ndim else len(w)
        step = w.new_zeros(count, *w.shape[1:])
        step[:, start:end] = self._step(origin, vector, strengths.reshape(-1, 1, 1))
        return step.expand_as(w)

    def step_z(self, z: Tensor, strength: float | Tensor) -> Tensor:
        """What a direction in Z adds to z [B, z_dim]; ``strength`` is one for all samples, or [B].

        Raises:
            ConfigError: the direction is not in Z, or not for z of this shape.
        """
        if self.space != "z" or z.ndim != 2 or z.shape[1] != len(self.vector):
            raise ConfigError(
                f"direction {self.name!r} lives in {self.space!r} with shape {self.vector.shape}; it cannot be added to "
                f"z of shape {tuple(z.shape)}"
            )
        return self._step(z, torch.tensor(self.vector).to(z), self._strengths(strength, z).reshape(-1, 1)).expand_as(z)

    def style_offsets(self, strength: float | Tensor, like: Tensor) -> dict[str, Tensor]:
        """What a direction in S adds to the styles: layer name -> [B or 1, C], for layers that it moves.

        Args:
            strength: one for all samples, or [B].
            like: a tensor of the batch [B, ...], for its dtype and device.

        Raises:
            ConfigError: the direction is not in S.
        """
        if self.style_layers is None:
            raise ConfigError(f"direction {self.name!r} lives in {self.space!r}, it has no styles to move")
        moved = self._strengths(strength, like).reshape(-1, 1) * self.unit * torch.tensor(self.vector).to(like)
        parts = moved.split([channels for _, channels in self.style_layers], dim=1)
        kept = np.split(self.vector, np.cumsum([channels for _, channels in self.style_layers])[:-1])
        return {n: p for (n, _), p, own in zip(self.style_layers, parts, kept, strict=True) if own.any()}

    def at_layers(self, start: int, end: int) -> Direction:
        """The same direction on W+ rows [start, end) only, instead of its own range (GANSpace's layer-wise edits).

        Raises:
            ConfigError: the direction has no rows, or has none of its own for some of these.
        """
        if self.space not in ("w", "w+"):
            raise ConfigError(
                f"direction {self.name!r} lives in {self.space!r} and has no rows of W+; leave out the range {start}-{end - 1}"
            )
        if self.vector.ndim == 1:
            return replace(self, layers=(start, end))
        first = self.layers[0] if self.layers else 0
        if not first <= start < end <= first + len(self.vector):
            raise ConfigError(
                f"direction {self.name!r} has vectors for rows {first}-{first + len(self.vector) - 1}, "
                f"not for {start}-{end - 1}"
            )
        return replace(self, vector=self.vector[start - first : end - first], layers=(start, end))

    def check(self, fingerprint: str, generator_name: str = "", *, trust: bool = False) -> None:
        """Refuse use with another generator, whose latent space has other axes.

        Args:
            trust: accept a generator that was only stated. A generator that is known to be different is refused anyway.

        Raises:
            GeneratorMismatch: ``fingerprint`` is not that of the generator this direction belongs to, or that cannot be verified.
        """
        if fingerprint == self.generator_fingerprint != UNVERIFIED or (trust and not self.verified):
            return
        given = f"{generator_name or 'a generator'} ({fingerprint[:12]})"
        if not self.verified:
            raise GeneratorMismatch(
                f"direction {self.name!r} was imported for {self.generator_name!r} without its weights, so nobody checked "
                f"that it belongs to {given}: if you know that it does, name it in `trust`, or import it again with the "
                "generator's weights"
            )
        own = f"{self.generator_name} ({self.generator_fingerprint[:12]})"
        raise GeneratorMismatch(
            f"direction {self.name!r} belongs to generator {own} but was used with {given}; "
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
            "style_layers": None if self.style_layers is None else [list(layer) for layer in self.style_layers],
            "generator_resolution": self.generator_resolution,
            "dtype": self.dtype,
            "report": copy.deepcopy(self.report),
            "version": self.version,
        }
        return arrays, metadata

    @classmethod
    def from_record(cls, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Direction:
        """The inverse of ``to_record``.

        Raises:
            DataError: a part is missing or unknown.
        """
        parts: dict[str, Any] = {**metadata, **arrays}
        if parts.get("layers") is not None:
            parts["layers"] = tuple(parts["layers"])
        if parts.get("style_layers") is not None:
            parts["style_layers"] = tuple((name, channels) for name, channels in parts["style_layers"])
        try:
            return cls(**parts)
        except TypeError as error:
            raise DataError(f"this is not the record of a direction: {error}; it has {sorted(parts)}") from None

    def _strengths(self, strength: float | Tensor, like: Tensor) -> Tensor:
        """Strengths [] or [B] in the dtype and on the device of a batch."""
        strengths = torch.as_tensor(strength, dtype=like.dtype, device=like.device)
        if strengths.ndim > 1 or (strengths.ndim == 1 and len(strengths) != len(like)):
            raise ConfigError(
                f"strength of {self.name!r} must be one number or one for each of the {len(like)} samples, "
                f"got shape {tuple(strengths.shape)}"
            )
        return strengths

    def _step(self, x: Tensor, vector: Tensor, strengths: Tensor) -> Tensor:
        """The step along ``vector`` from latents x [..., D] whose coordinate counts."""
        moved = strengths * self.unit * vector
        if self.mode != "relative":
            # Dividing by |v|^2 makes this the coordinate of an orthogonal projection for vectors of any norm.
            centred = x if self.mean is None else x - torch.tensor(self.mean).to(x)
            coordinate = (centred * vector).sum(-1, keepdim=True) / vector.square().sum(-1, keepdim=True)
            moved = moved - coordinate * vector
        return moved

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
        if self.num_ws not in (None, w.shape[1]):
            raise ConfigError(
                f"direction {self.name!r} was imported for {self.generator_name!r} of resolution "
                f"{self.generator_resolution}, whose W+ has {self.num_ws} rows; this code has {w.shape[1]}: it belongs to "
                "another generator"
            )
        start, end = self.layers or (0, w.shape[1])
        if end > w.shape[1] or (self.vector.ndim == 2 and len(self.vector) != end - start):
            last = end - 1 if self.layers else len(self.vector) - 1
            raise ConfigError(
                f"direction {self.name!r} was to move rows {start} to {last} of w, and this code has rows 0 to "
                f"{w.shape[1] - 1}: name rows that it has, or, if none were named, the direction belongs to a generator of "
                "another resolution"
            )
        return start, end


def rows_of(resolution: int) -> int:
    """Rows of W+ of a StyleGAN2 of this resolution."""
    return 2 * (resolution.bit_length() - 1) - 2


def _checked(value: Any, what: str, ndims: tuple[int, ...], dtype: str) -> np.ndarray:
    array = np.array(value, dtype=dtype)
    if array.ndim not in ndims or array.size == 0:
        shapes = " or ".join({1: "[w_dim]", 2: "[rows, w_dim]"}[n] for n in ndims)
        raise DataError(f"{what} must have shape {shapes}, got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{what} has values that are not finite; fit or import it again")
    array.flags.writeable = False
    return array
