"""``Edit``: directions with strengths, applied to a ``Code``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing.conditional import conditioned
from ganinv.editing.moves import moved, moved_in_segment
from ganinv.editing.notation import Reference, parse_edit, parse_reference
from ganinv.editing.strength import Amount, Response, Strength
from ganinv.errors import ConfigError, GeneratorMismatch

if TYPE_CHECKING:
    from ganinv.generators.stylegan2 import Generator


class DirectionLookup(Protocol):
    """Where directions are found by name and generator fingerprint.

    A lookup with versions takes ``version=``, one with unverified directions ``trust=True``; both are passed only if an edit
    needs them.
    """

    def get(self, name: str, *, generator: str | None) -> Direction: ...


class HasDirections(Protocol):
    """A store."""

    @property
    def directions(self) -> DirectionLookup: ...


Directions = Mapping[str, Direction] | DirectionLookup | HasDirections


@dataclass(frozen=True)
class Edit:
    """What to change, and by how much.

    Args:
        strengths: direction -> strength in the direction's units, one for all samples or [B]; or for one of them a
            ``Response``, the change of a score that the whole edit is to bring about, whose strength
            ``ganinv.editing.find_strengths`` finds before the edit is applied. A direction is named as in
            ``ganinv.editing.notation``: ``smile``, ``smile@3`` (a version), ``smile(0-3)`` (rows), ``E(v1,0-3)``.
        conditions: directions along which nothing may move: every direction of the edit is first made orthogonal to the others
            by one Gram solve (InterFaceGAN, "conditional manipulation"). The length of a step does not change.
        trust: names of imported directions to apply although their generator was not verified, if their shapes fit.
        segment: the name or number of the one segment to be edited, of codes that have some (``Code.segments``): pixels
            where its mask is 0 stay what they are. None edits the code as a whole, and so all segments alike.
    """

    strengths: Mapping[str, Strength]
    conditions: Sequence[str] | None = None
    trust: Sequence[str] = ()
    segment: str | int | None = None

    def __post_init__(self) -> None:
        if not self.strengths:
            raise ConfigError("an edit needs at least one direction with a strength, such as {'smile': 2.0}")
        for what, names in (("conditions", self.conditions), ("trust", self.trust)):
            if isinstance(names, str):
                raise ConfigError(f"{what} must be a list of direction names, got the text {names!r}")
        for text in (*self.strengths, *(self.conditions or ())):
            parse_reference(text)
        for text, strength in self.strengths.items():
            if not isinstance(strength, Response) and not _finite(strength):
                raise ConfigError(f"the strength of {text} must be a finite number, or [B] of them, got {strength!r}")
        if len(self.responses) > 1:
            raise ConfigError(
                f"one strength of an edit can be stated as a change of a score, got {len(self.responses)}: "
                f"{', '.join(self.responses)}. Find one, and give the others as numbers"
            )

    @classmethod
    def parse(cls, text: str, conditions: Sequence[str] | None = None, trust: Sequence[str] = ()) -> Edit:
        """``Edit.parse("smile(0-3)=2, age=-1")``. Raises ConfigError for a text that is not an edit."""
        return cls(parse_edit(text), conditions, trust)

    @property
    def responses(self) -> list[str]:
        """The direction whose strength is stated as the change of a score, if there is one."""
        return [text for text, strength in self.strengths.items() if isinstance(strength, Response)]

    @property
    def references(self) -> list[Reference]:
        """Every direction to look up: those that move, then the conditions."""
        return [parse_reference(text) for text in (*self.strengths, *(self.conditions or ()))]

    def apply(
        self,
        code: Code,
        directions: Directions,
        generator_fingerprint: str | None = None,
        *,
        generator: Generator | None = None,
    ) -> Code:
        """The edited code; noise, features and tuned weights stay as they are.

        ``Inverter.after_edit`` and ``CodeReader.after_edit`` add what the method does after an edit: stored features move
        with it, or the photo is consulted again.

        Each direction's step is computed on the code as given and the steps are added, so their order does not matter.
        Two absolute directions of one edit reach their coordinates exactly only where they are orthogonal.

        Args:
            directions: a mapping (of ``smile`` or ``smile@3``), a lookup with ``get(name, generator=fingerprint)``, or a
                store that has ``directions``.
            generator_fingerprint: of the generator that ``code`` belongs to. None takes that of ``generator``, or of the
                first direction (its newest version); the other directions must be of the same one.
            generator: directions in Z need its mapping network, inversions in S its styles.

        Raises:
            ConfigError: an unknown direction, one that does not fit the code, a code without what it needs, or a strength
                that is still to be found.
            GeneratorMismatch: a direction of another generator, or of one that was only stated.
        """
        if self.responses:
            name = self.responses[0]
            raise ConfigError(
                f"the strength {name}={self.strengths[name]} is stated as the change of a score: find it with "
                "ganinv.editing.find_strengths(edit, code, ..., labeller), or give a number"
            )
        if generator is not None:
            if generator_fingerprint not in (None, generator.fingerprint):
                raise GeneratorMismatch(
                    f"the code belongs to generator {str(generator_fingerprint)[:12]}, but was used with "
                    f"{generator.name!r} ({generator.fingerprint[:12]})"
                )
            generator_fingerprint = generator.fingerprint
        name = "" if generator is None else generator.name
        return self.moved(code, self.resolve(directions, generator_fingerprint, name), generator)

    def moved(self, code: Code, steps: Sequence[tuple[Direction, Strength]], generator: Generator | None) -> Code:
        """``apply`` with directions that are resolved already."""
        taken = [(direction, torch.as_tensor(strength)) for direction, strength in steps]
        if self.segment is not None:
            return moved_in_segment(code, self.segment, taken, generator)
        return moved(code, taken, generator)

    def resolve(
        self, directions: Directions, generator_fingerprint: str | None, generator_name: str = ""
    ) -> list[tuple[Direction, Strength]]:
        """The directions as they are applied, including rows and conditions, with their strengths.

        Arguments and errors as in ``apply``; the generator's name is for messages.
        """
        references = [parse_reference(text) for text in self.strengths]
        if generator_fingerprint is None:
            generator_fingerprint = self._find(directions, references[0]).generator_fingerprint
        generator = (generator_fingerprint, generator_name)
        conditions = map(parse_reference, self.conditions or ())
        held = [(reference, self._ranged(directions, reference, generator)) for reference in conditions]
        resolved = []
        for reference, strength in zip(references, self.strengths.values(), strict=True):
            direction = self._ranged(directions, reference, generator)
            others = [other for key, other in held if key.name != reference.name]
            resolved.append((conditioned(direction, others) if others else direction, strength))
        return resolved

    def _ranged(self, directions: Directions, reference: Reference, generator: tuple[str, str]) -> Direction:
        direction = self._find(directions, reference, generator)
        return direction if reference.layers is None else direction.at_layers(*reference.layers)

    def _find(
        self, directions: Directions, reference: Reference, generator: tuple[str, str] | None = None
    ) -> Direction:
        """``generator``: fingerprint and name; None takes the direction of any."""
        trust = reference.name in self.trust
        fingerprint = generator[0] if generator else None
        if isinstance(directions, Mapping):
            direction = _in_mapping(directions, reference)
        else:
            lookup = directions.directions if hasattr(directions, "directions") else directions
            more: dict[str, Any] = {"version": reference.version} if reference.version is not None else {}
            direction = lookup.get(reference.name, generator=fingerprint, **more, **({"trust": True} if trust else {}))
        if generator is not None:
            direction.check(*generator, trust=trust)
        return direction


def _in_mapping(directions: Mapping[str, Direction], reference: Reference) -> Direction:
    found = directions.get(reference.stored)
    if found is None and reference.version is not None:
        found = directions.get(reference.name)
        found = found if found is not None and found.version == reference.version else None
    if found is None:
        known = ", ".join(sorted(directions)) or "none"
        raise ConfigError(f"no direction {reference.stored!r}; there are: {known}")
    return found


def _finite(strength: Amount) -> bool:
    try:
        return bool(torch.isfinite(torch.as_tensor(strength, dtype=torch.float64)).all())
    except (TypeError, ValueError, RuntimeError):  # what torch says of texts and of objects
        return False
