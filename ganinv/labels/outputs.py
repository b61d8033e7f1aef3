"""How named scores are read off a network's output row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import WeightsRefused
from ganinv.labels.base import Attribute, Kind

Numbers = Literal["logits", "probabilities", "values"]


class Output(StrictModel):
    """One attribute of a network with outputs [B, K]. Exactly one of ``column``, ``pair``, ``bins`` says where it is.

    Args:
        column: the score is this output.
        pair: (absent, present): two logits of a softmax, as in classifiers with 2 outputs per attribute.
        bins: [start, stop): a softmax over these outputs is a distribution over 0, 1, 2, ...; the score is its mean, as
            in age and pose networks.
        scale, offset: the score is ``value * scale + offset``. ``scale: -1`` turns the sign, so that positive means
            what ``positive_means`` says.
        kind: what the score is; by default what the network's outputs are.
    """

    column: int | None = None
    pair: tuple[int, int] | None = None
    bins: tuple[int, int] | None = None
    scale: float = 1.0
    offset: float = 0.0
    kind: Kind | None = None
    positive_means: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Output:
        if sum(place is not None for place in (self.column, self.pair, self.bins)) != 1:
            raise ValueError("give exactly one of column, pair and bins")
        if self.scale == 0:
            raise ValueError("scale 0 makes every score the same")
        return self

    @property
    def last(self) -> int:
        """The highest output it reads."""
        return max(self.column if self.column is not None else 0, *(self.pair or (0,)), (self.bins or (0, 1))[1] - 1)

    def attribute(self, name: str, numbers: Numbers) -> Attribute:
        """What the score is, for the record."""
        default: Kind = "probability" if numbers == "probabilities" else "logit" if numbers == "logits" else "value"
        kind = self.kind or ("value" if self.bins else default)
        return Attribute(kind=kind, positive_means=self.positive_means or f"more {name}")

    def read(self, outputs: Tensor, numbers: Numbers) -> Tensor:
        """[B] of outputs [B, K]."""
        if self.bins is not None:
            part = outputs[:, self.bins[0] : self.bins[1]]
            weights = part if numbers == "probabilities" else part.softmax(1)
            value = weights @ torch.arange(part.shape[1], dtype=part.dtype, device=part.device)
        elif self.pair is not None:
            absent, present = outputs[:, self.pair[0]], outputs[:, self.pair[1]]
            value = present if numbers == "probabilities" else present - absent
        else:
            value = outputs[:, self.column]
        if self.bins is None and numbers == "logits" and self.kind == "probability":
            value = value.sigmoid()  # of a pair: the softmax of the two
        return value * self.scale + self.offset


def expand_outputs(data: Any) -> Any:
    """The short form of a configuration's ``outputs``: a list of names is columns 0, 1, ...; ``{pairs: [names]}`` is
    (0, 1), (2, 3), ... as (absent, present)."""
    if isinstance(data, list | tuple):
        return {name: {"column": i} for i, name in enumerate(data)}
    if isinstance(data, Mapping) and set(data) == {"pairs"}:
        return {name: {"pair": (2 * i, 2 * i + 1)} for i, name in enumerate(data["pairs"])}
    return data


def side_by_side(outputs: Any, wanted: Mapping[str, Output], who: str) -> Tensor:
    """What a network gave as rows [B, K] that have every column that is asked for.

    Several outputs (a tuple, list or dict of [B, ...], as of a pose network with one head per angle) are flattened and
    laid side by side in their order.

    Raises:
        WeightsRefused: the network gives something else.
    """
    parts = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    parts = [parts] if isinstance(parts, Tensor) else parts
    if not isinstance(parts, list | tuple) or not all(isinstance(p, Tensor) and p.ndim >= 2 for p in parts):
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise WeightsRefused(f"labeller {who} must give one row of numbers [B, K] per image, its network gave {got}")
    rows = torch.cat([part.flatten(1).float() for part in parts], 1)
    for name, output in wanted.items():
        if output.last >= rows.shape[1]:
            raise WeightsRefused(
                f"labeller {who}: {name!r} is read from output {output.last}, its network has {rows.shape[1]} "
                "outputs (0 is the first); correct outputs in its configuration"
            )
    return rows
