"""Calibrated strength: an edit as strong as a classifier's response says, image by image (ChunkyGAN, Subrtova et al. 2022).

The same step changes two inversions by different amounts: codes far from W react less. To compare methods at equal
changes of the attribute, the strength is found separately for each image, by rendering and scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing.edit import Directions, Edit
from ganinv.editing.search import Outcome, StrengthSearch, find
from ganinv.editing.strength import Response, scaled
from ganinv.errors import ConfigError
from ganinv.labels.base import Labeller
from ganinv.stages.batches import batches

if TYPE_CHECKING:
    from ganinv.generators.stylegan2 import Generator


@dataclass(frozen=True)
class FoundStrengths:
    """The result of ``find_strengths``.

    Args:
        edit: the edit with the strengths that were found, ready for ``Edit.apply``.
        attribute: the attribute whose score was measured.
        strength: [B], in the direction's own units. response: [B], the change of the score at it, in the unit in which
            it was stated. NaN if there is no score.
        outcome: per image ``reached``, ``out_of_reach`` (no strength up to the bound responds as much: the nearest one
            is given), ``not_converged`` or ``no_score`` (strength 0).
    """

    edit: Edit
    attribute: str
    strength: Tensor
    response: Tensor
    outcome: tuple[Outcome, ...]

    def __getitem__(self, part: slice) -> FoundStrengths:
        """Some images of the batch."""
        count = len(self.outcome)
        strengths = {
            name: s[part] if isinstance(s, Tensor) and s.ndim and len(s) == count else s
            for name, s in self.edit.strengths.items()
        }
        edit = replace(self.edit, strengths=strengths)
        return FoundStrengths(edit, self.attribute, self.strength[part], self.response[part], self.outcome[part])


def find_strengths(
    edit: Edit,
    code: Code,
    directions: Directions,
    generator: Generator,
    labeller: Labeller,
    search: StrengthSearch | None = None,
    sigma: Mapping[str, float] | None = None,
    batch_size: int = 16,
    after: Callable[[Tensor, Code, Code], Code] | None = None,
) -> FoundStrengths:
    """Find the strength that the edit states as a ``Response``, for each image: the one nearest to 0 at which the score
    of the whole edit differs from that of the unedited image by as much.

    An image's result does not depend on the others of the batch.

    Args:
        edit: with one strength that is a ``Response``; its other terms, conditions and segment hold as they are.
        directions: as in ``Edit.apply``.
        sigma: attribute -> standard deviation of its score. None takes what the direction's calibration recorded.
        after: (which images [n], their code, the edited one) -> what is rendered for the edited one, where that is more than
            a moved code (``Inverter.after_edit``).

    Raises:
        ConfigError: no strength to be found, an attribute without scores or standard deviation, or as ``Edit.apply``.
        GeneratorMismatch: as ``Edit.apply``.
    """
    search = search or StrengthSearch()
    steps = edit.resolve(directions, generator.fingerprint, generator.name)
    place, target = target_of(edit, steps, labeller, sigma)
    stated = edit.strengths[target.reference]
    assert isinstance(stated, Response)
    change = torch.as_tensor(stated.change, dtype=torch.float64).cpu().expand(len(code)).numpy()

    def score(index: np.ndarray, strengths: np.ndarray | None) -> np.ndarray:
        scores = []
        for part, real in batches(len(index), batch_size):
            lanes = torch.as_tensor(index[part])
            one = code[lanes]
            if strengths is not None:
                given = [strengths[part] if k == place else _of(s, lanes, len(code)) for k, (_, s) in enumerate(steps)]
                moved = [(d, torch.as_tensor(s)) for (d, _), s in zip(steps, given, strict=True)]
                edited = edit.moved(one, moved, generator)
                one = edited if after is None else after(lanes, one, edited)
            images = generator.render(one.to(generator.device), len(part))
            scores.append(labeller(images)[target.attribute][:real].double().cpu().numpy())
        return np.concatenate(scores)

    before = score(np.arange(len(code)), None)
    plain = len(steps) == 1
    at_zero = before if plain else score(np.arange(len(code)), np.zeros(len(code)))
    found = find(
        lambda index, strengths: (score(index, strengths) - before[index]) / target.scale,
        (at_zero - before) / target.scale,
        change,
        np.abs(change) * target.step,
        search,
    )
    strength = torch.as_tensor(found.strength, dtype=torch.float32)
    strengths = {name: strength if name == target.reference else given for name, given in edit.strengths.items()}
    response = torch.as_tensor(found.response, dtype=torch.float32)
    return FoundStrengths(replace(edit, strengths=strengths), target.attribute, strength, response, found.outcome)


def find_multiples(
    edit: Edit,
    multiples: Sequence[float],
    code: Code,
    directions: Directions,
    generator: Generator,
    labeller: Labeller,
    search: StrengthSearch | None = None,
    after: Callable[[Tensor, Code, Code], Code] | None = None,
) -> list[FoundStrengths]:
    """``find_strengths`` of several multiples of an edit, all in one search: for each, what was found for the images.

    Args:
        edit: its strengths are numbers and one ``Response``, for all images. The others: as in ``find_strengths``.
    """
    batch = len(code)
    lanes = Code.cat([code] * len(multiples))
    if lanes.z is not None and len(lanes.z) < len(lanes):
        lanes = replace(lanes, z=lanes.z.expand(len(lanes), -1))
    by = torch.tensor(multiples).repeat_interleave(batch)
    whole = replace(edit, strengths={name: scaled(s, by) for name, s in edit.strengths.items()})  # type: ignore[arg-type]
    found = find_strengths(whole, lanes, directions, generator, labeller, search, after=after)
    return [found[slice(k * batch, (k + 1) * batch)] for k in range(len(multiples))]


@dataclass(frozen=True)
class ScoreTarget:
    """The target of the search: ``scale`` is one unit of the stated change in the score's own units, ``step`` a first guess of
    the strength needed."""

    reference: str
    attribute: str
    scale: float
    step: float


def target_of(
    edit: Edit, steps: Sequence[tuple[Direction, object]], labeller: Labeller, sigma: Mapping[str, float] | None = None
) -> tuple[int, ScoreTarget]:
    """Which strength is to be found, and by which score. Renders nothing.

    Raises:
        ConfigError: as ``find_strengths``.
    """
    if not edit.responses:
        raise ConfigError("no strength of this edit is stated as the change of a score, such as smile=1sd")
    if labeller.needs != "images":
        raise ConfigError(
            f"labeller {labeller.identity} looks scores up by id; a strength is found by scoring renderings"
        )
    reference = edit.responses[0]
    place = list(edit.strengths).index(reference)
    direction, stated = steps[place][0], edit.strengths[reference]
    assert isinstance(stated, Response)
    calibration = direction.report.get("calibration") or {}
    attribute = stated.attribute or calibration.get("attribute") or direction.name
    if attribute not in labeller.attributes:
        raise ConfigError(
            f"{reference}={stated} follows the score of {attribute!r}, which labeller {labeller.identity} does not have; "
            f"it has: {', '.join(labeller.attributes)}. Name one of them, as in {reference}=1sd:{next(iter(labeller.attributes))}"
        )
    same = calibration.get("attribute") == attribute and calibration.get("labeller") == labeller.identity
    std = (sigma or {}).get(attribute) or (calibration.get("score_std") if same else None)
    if stated.unit == "sd" and not std:
        raise ConfigError(
            f"{reference}={stated} counts standard deviations of {attribute!r}, and direction {direction.name!r} was not "
            f"calibrated by labeller {labeller.identity} for it: state the change in the score's own measure, as in "
            f"{reference}=0.5score, or fit the direction with calibration"
        )
    scale = float(std) if stated.unit == "sd" and std else 1.0
    per_sd = calibration.get("strength") if same else None
    # The direction's mean response says where to begin; without it one unit is as good as any.
    step = float(per_sd) / calibration["response_per_step"] * scale / float(std) if per_sd and std else 1.0
    return place, ScoreTarget(reference, attribute, scale, step)


def _of(strength: object, lanes: Tensor, batch: int) -> Tensor:
    """A strength for some lanes of a batch."""
    given = torch.as_tensor(strength)
    return given[lanes] if given.ndim == 1 and len(given) == batch else given
