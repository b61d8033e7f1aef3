"""What a direction does, measured: edited samples are rendered and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Labeller


@dataclass(frozen=True)
class Start:
    """Samples before an edit.

    Args:
        w: [N, num_ws, w_dim], as they are rendered (truncated, if they are to be).
        z: [N, z_dim], where directions in Z are to be measured. psi: the truncation that takes z to w.
        c: [N, c_dim], the classes that took z to w, of a conditional generator.
    """

    w: Tensor
    z: Tensor | None = None
    psi: float = 1.0
    c: Tensor | None = None

    @classmethod
    def of(cls, generator: Generator, z: Tensor, psi: float = 1.0) -> Start:
        """Samples z [N, z_dim], mapped and truncated; of a conditional generator with its classes in turn."""
        c = generator.classes_in_turn(len(z))
        with torch.no_grad():
            w = generator.map(z.to(generator.device), c, truncation_psi=psi)
        return cls(w, z, psi, c)

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, part: slice) -> Start:
        z, c = (None if each is None else each[part] for each in (self.z, self.c))
        return Start(self.w[part], z, self.psi, c)


@dataclass(frozen=True)
class Effects:
    """Scores of samples before and after edits.

    Args:
        strengths: [S], in units of the direction. attributes: K names.
        before: [N, K]. after: [S, N, K].
        sigma: [K], standard deviation of each score over the generator's samples.
    """

    strengths: np.ndarray
    attributes: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    sigma: np.ndarray

    def change(self, attribute: str | None = None) -> np.ndarray:
        """Change of the scores in standard deviations: [S, N, K], or [S, N] of one attribute."""
        change = (self.after - self.before) / self.sigma
        return change if attribute is None else change[..., self.column(attribute)]

    def column(self, attribute: str) -> int:
        """Where an attribute is.

        Raises:
            ConfigError: the labeller has no such attribute.
        """
        if attribute not in self.attributes:
            raise ConfigError(f"no attribute {attribute!r} was measured; there are: {', '.join(self.attributes)}")
        return self.attributes.index(attribute)

    def slope(self) -> np.ndarray:
        """[K]: mean change of each score, in standard deviations, per unit of strength (least squares through 0)."""
        mean = self.change().mean(1)
        return (self.strengths[:, None] * mean).sum(0) / np.square(self.strengths).sum()

    def monotone(self, attribute: str) -> float:
        """Share of samples whose score never falls from one strength to the next and ends higher; strength 0, the
        unedited sample, takes its place among them."""
        scores = np.concatenate([self.after[..., self.column(attribute)], self.before[None, :, self.column(attribute)]])
        order = np.argsort(np.append(self.strengths, 0.0), kind="stable")
        steps = np.diff(scores[order], axis=0)
        return float(((steps >= 0).all(0) & (steps.sum(0) > 0)).mean())


def edited(generator: Generator, direction: Direction, start: Start, strength: float) -> Code:
    """The code of samples after an edit, in whatever space the direction lives.

    Raises:
        ConfigError: a direction in Z, and samples without z; or one that does not fit the generator.
    """
    if direction.space == "z":
        if start.z is None:
            raise ConfigError(f"direction {direction.name!r} lives in Z: give the samples' z")
        z = start.z.to(generator.device)
        with torch.no_grad():
            return Code(w=generator.map(z + direction.step_z(z, strength), start.c, truncation_psi=start.psi))
    if direction.space == "s":
        offsets = direction.style_offsets(strength, start.w)
        return Code(w=start.w, styles={name: offset.expand(len(start), -1) for name, offset in offsets.items()})
    return Code(w=direction.apply(start.w, strength))


def rendering_batch(generator: Generator) -> int:
    """How many images to render at once where nothing depends on it. On a CPU few: features then stay in its cache (at 64
    pixels 8 take a sixth less time than 32)."""
    return 8 if generator.device.type == "cpu" else 32


def score_codes(generator: Generator, labeller: Labeller, code: Code, batch_size: int | None = None) -> np.ndarray:
    """Scores [N, K] of the images of a code, rendered a batch at a time."""
    rows, batch_size = [], batch_size or rendering_batch(generator)
    for first in range(0, len(code), batch_size):
        images = generator.render(code[first : first + batch_size], batch_size)
        rows.append(torch.stack(list(labeller(images).values()), 1).cpu().numpy())
    return np.concatenate(rows).astype(np.float64)


def measure_effects(
    generator: Generator,
    labeller: Labeller,
    direction: Direction,
    start: Start,
    strengths: Sequence[float],
    sigma: Mapping[str, float],
    before: np.ndarray | None = None,
) -> Effects:
    """Render and score samples at each strength.

    Args:
        strengths: in units of the direction; 0 is measured anyway.
        sigma: attribute -> standard deviation of its score over the generator's samples.
        before: scores of the unedited samples, where they are known.

    Raises:
        ConfigError: no sigma of an attribute, or a direction that does not fit. DataError: a labeller without images.
    """
    if labeller.needs != "images":
        raise DataError(
            f"labeller {labeller.identity} looks scores up by id; what an edit does needs one that sees images"
        )
    names = tuple(labeller.attributes)
    if missing := [name for name in names if not sigma.get(name)]:
        raise ConfigError(f"no standard deviation of {', '.join(missing)}: score some samples of the generator first")
    direction.check(generator.fingerprint, generator.name)
    if before is None:
        before = score_codes(generator, labeller, Code(w=start.w))
    after = [score_codes(generator, labeller, edited(generator, direction, start, s)) for s in strengths]
    scale = np.array([sigma[name] for name in names])
    return Effects(np.array(strengths, dtype=np.float64), names, before, np.stack(after), scale)
