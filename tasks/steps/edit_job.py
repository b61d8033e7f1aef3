"""``EditJob``: which edits, as the step and its workers read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.editing import Edit, Response, StrengthSearch, parse_strength
from ganinv.editing.strength import scaled
from ganinv.generators.files import EMBEDDED
from tasks.codes import CodesJob


def _written(weight: Any) -> Any:
    """A strength as YAML holds it: a number, or the text of a ``Response``."""
    strength = parse_strength(weight) if isinstance(weight, str) else weight
    if strength is None:
        raise ValueError(f"expected a number, or a change of a score such as 1sd or 0.5score, got {weight!r}")
    return str(strength) if isinstance(strength, Response) else strength


Weight = Annotated[float | str, BeforeValidator(_written)]


class EditSpec(StrictModel):
    """One edit over a range of strengths: strength s moves each direction by s times its weight.

    Args:
        directions: direction -> weight: ``{smile: 1}``, or several for a combined edit. Named as in
            ``ganinv.editing.notation``: ``smile@3`` is a version, ``smile(0-3)`` and ``E(v1,0-3)`` some rows of W+. The
            weight of one of them may be the change of a score that the whole edit is to bring about, ``{smile: 1sd}`` or
            ``{yaw: 10score}``: strength s then is s times that change, and how far an image is moved for it is found by
            rendering and scoring it.
        conditions: directions along which the edit must not move.
        trust: names of imported directions to apply although their generator was not verified.
        segment: name of the only segment to edit, for codes that have segments; images without it stay unchanged.
        reference: instead of directions, an image (path or URL) whose ``attributes`` are copied by a trained ``editor``; if none
            are named, all that the editor knows. Strength s goes s times the way.
    """

    name: str
    directions: Mapping[str, Weight] = Field(default_factory=dict)
    strengths: tuple[float, ...] = Field((-2.0, -1.0, 0.0, 1.0, 2.0), min_length=1)
    conditions: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    segment: str | None = None
    reference: str | None = None
    attributes: tuple[str, ...] = ()
    editor: str = "reference-editor"

    @model_validator(mode="after")
    def _usable(self) -> EditSpec:
        if (self.reference is None) != bool(self.directions):
            raise ValueError(f"edit {self.name!r} needs either directions or a reference image")
        if self.reference is None and self.attributes:
            raise ValueError(f"edit {self.name!r} names attributes, and no reference image to take them from")
        if self.reference is not None and (self.segment or self.conditions or self.trust):
            raise ValueError(
                f"edit {self.name!r} is by a reference: it has no segment, conditions or trusted directions"
            )
        if sum(isinstance(weight, str) for weight in self.directions.values()) > 1:
            raise ValueError(f"one weight of an edit can be the change of a score, got {dict(self.directions)}")
        return self

    def edit(self, strength: float | Tensor) -> Edit:
        """The edit at one strength, or at one per sample [B], of a whole image."""
        weights = {n: parse_strength(w) if isinstance(w, str) else w for n, w in self.directions.items()}
        strengths = {n: scaled(weight, strength) for n, weight in weights.items() if weight is not None}
        return Edit(strengths, self.conditions or None, self.trust)


class EditJob(CodesJob):
    """Apply ``edits`` to ``latents/<latents>`` into ``edits/<name>``.

    Args:
        images: ``none`` stores only latents; ``files`` also writes a PNG per image, edit and strength beside the table;
            ``shards`` stores the PNG in a column of the table.
        labeller: measures scores for edits that state a change of score. search: range and effort of finding the strength.
    """

    store: str
    latents: str
    edits: tuple[EditSpec, ...] = Field(min_length=1)
    name: str = "edits"
    generator: str = EMBEDDED
    images: Literal["none", "files", "shards"] = "none"
    labeller: str = "portraits-64"
    search: StrengthSearch = StrengthSearch()

    @property
    def calibrated(self) -> bool:
        """Whether any edit states the change of a score."""
        return any(spec.edit(1.0).responses for spec in self.moves)

    @property
    def moves(self) -> tuple[EditSpec, ...]:
        """The edits along directions."""
        return tuple(spec for spec in self.edits if spec.reference is None)

    @property
    def rows_each(self) -> int:
        """Rows per image."""
        return sum(len(spec.strengths) for spec in self.edits)

    @model_validator(mode="after")
    def _unique(self) -> EditJob:
        names = [e.name for e in self.edits]
        if len(set(names)) != len(names):
            raise ValueError(f"edits must have names of their own, got {names}")
        return self
