"""How an edit is written: ``smile=2``, ``smile@3(0-3)=2``, GANSpace's ``E(v1,0-3)=2``, and ``smile=1sd``.

    edit      = term ("," term)*
    term      = reference "=" strength
    strength  = number  |  number ("sd" | "score") [":" attribute]
    reference = name ["@" version] ["(" rows ")"]  |  "E(" name-or-component ["@" version] ["," rows] ")"
    rows      = first "-" last, counted from 0 and both included  |  one row
    component = "v" number, counted from 0: v1 is the direction pca-01

A strength with ``sd`` or ``score`` is the change of a score that the edit is to bring about (``ganinv.editing.strength``).

In the paper (Harkonen et al. 2020, section 2.3) E(v1, 0-3) moves the first four rows along a component; its code writes
the same range as [0, 4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ganinv.editing.strength import Response, parse_strength
from ganinv.errors import ConfigError

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_VERSION = r"(?:@(?P<version>[0-9]{1,9}))?"
_ROWS = r"(?P<first>[0-9]{1,4})(?:\s*-\s*(?P<last>[0-9]{1,4}))?"
_PLAIN = re.compile(rf"\s*(?P<name>{_NAME}){_VERSION}\s*(?:\(\s*{_ROWS}\s*\))?\s*")
_GANSPACE = re.compile(rf"\s*E\(\s*(?P<name>{_NAME}){_VERSION}\s*(?:,\s*{_ROWS}\s*)?\)\s*")
_COMPONENT = re.compile(r"v(\d{1,4})")
_HELP = (
    "write smile=2, smile(0-3)=2 for rows 0 to 3 of W+, smile@3=2 for version 3, E(v1,0-3)=2 for a GANSpace component, "
    "smile=1sd for the strength that changes the score by one standard deviation"
)


@dataclass(frozen=True)
class Reference:
    """A direction as an edit names it.

    Args:
        version: None takes the newest. layers: W+ rows [start, end) that take the place of the direction's own.
    """

    name: str
    version: int | None = None
    layers: tuple[int, int] | None = None

    @property
    def stored(self) -> str:
        """Name and version, without rows: what is looked up."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def __str__(self) -> str:
        if self.layers is None:
            return self.stored
        start, last = self.layers[0], self.layers[1] - 1
        return f"{self.stored}({start})" if start == last else f"{self.stored}({start}-{last})"


def parse_reference(text: str) -> Reference:
    """``smile``, ``smile@3``, ``smile(0-3)``, ``E(v1,0-3)``.

    Raises:
        ConfigError: it is none of these, or its range is empty.
    """
    found = _GANSPACE.fullmatch(text)
    name = None
    if found is not None:
        component = _COMPONENT.fullmatch(found["name"])
        name = f"pca-{int(component[1]):02d}" if component else found["name"]
    else:
        found = _PLAIN.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} does not name a direction; {_HELP}")
        name = found["name"]
    layers = None
    if found["first"] is not None:
        start = int(found["first"])
        last = start if found["last"] is None else int(found["last"])
        if last < start:
            raise ConfigError(f"{text!r} has rows from {start} to {last}; write the smaller one first")
        layers = (start, last + 1)
    return Reference(name, None if found["version"] is None else int(found["version"]), layers)


def parse_edit(text: str) -> dict[str, float | Response]:
    """``smile(0-3)=2, age=1sd`` as reference -> strength, in the order of the text.

    Raises:
        ConfigError: a term that is no ``reference=strength``, or one that is there twice.
    """
    strengths: dict[str, float | Response] = {}
    for term in _terms(text):
        reference, equals, value = term.rpartition("=")
        if not equals or not reference.strip():
            raise ConfigError(f"expected direction=strength, got {term!r}; {_HELP}")
        key = str(parse_reference(reference))
        if key in strengths:
            raise ConfigError(f"{key} is there twice in {text!r}; give it one strength")
        strengths[key] = _strength(value, text)
    return strengths


def plain_edit(text: str) -> dict[str, float | str]:
    """``parse_edit`` in values that YAML and JSON have: the change of a score stays text, such as ``1sd``.

    Raises:
        ConfigError: as ``parse_edit``.
    """
    return {name: str(s) if isinstance(s, Response) else s for name, s in parse_edit(text).items()}


def _terms(text: str) -> list[str]:
    """Split at the commas that are not in brackets."""
    terms, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            terms.append("")
        else:
            terms[-1] += letter
    return terms


def _strength(value: str, text: str) -> float | Response:
    strength = parse_strength(value)
    if strength is None:
        raise ConfigError(
            f"expected a number after = in {text!r}, or a change of a score such as 1sd or 0.5score, got {value!r}"
        )
    return strength
