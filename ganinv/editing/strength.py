"""The strength of an edit: a number of the direction's own units, or the change of a score to achieve."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ganinv.errors import ConfigError

Amount = float | Tensor | Sequence[float]
"""One for all samples, or [B]."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RESPONSE = re.compile(rf"({_NUMBER})\s*(sd|score)(?:\s*:\s*([A-Za-z0-9][A-Za-z0-9._-]*))?")


@dataclass(frozen=True)
class Response:
    """A strength stated by what it does: written ``1sd``, ``-0.5score`` or, of another attribute, ``1sd:smile``.

    Args:
        change: of the attribute's score, against the unedited image; one for all samples, or [B].
        unit: ``sd`` counts standard deviations of the score over the generator's samples, ``score`` is the score's own
            measure: degrees, years, a probability.
        attribute: None takes the one that the direction was calibrated for when it was fitted, else its name.
    """

    change: Amount
    unit: Literal["sd", "score"] = "sd"
    attribute: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("sd", "score"):
            raise ConfigError(f"a change of a score is stated in 'sd' or 'score', got {self.unit!r}")

    def __str__(self) -> str:
        change = format(self.change, "g") if isinstance(self.change, float | int) else "..."
        return f"{change}{self.unit}" + (f":{self.attribute}" if self.attribute else "")


Strength = Amount | Response


def parse_strength(text: str) -> float | Response | None:
    """``2``, ``1.5sd``, ``-0.5score``, ``1sd:smile``; None for any other text."""
    text = text.strip()
    if found := _RESPONSE.fullmatch(text):
        return Response(float(found[1]), "sd" if found[2] == "sd" else "score", found[3])
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def scaled(strength: float | Response, by: float | Tensor) -> Strength:
    """``by`` times a strength; ``by`` is one number, or [B]."""
    return replace(strength, change=strength.change * by) if isinstance(strength, Response) else strength * by  # type: ignore[operator]
