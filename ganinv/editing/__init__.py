"""Editing: directions with strengths, applied to codes."""

from ganinv.editing.calibrated import FoundStrengths, find_strengths
from ganinv.editing.conditional import conditioned
from ganinv.editing.edit import Edit
from ganinv.editing.notation import Reference, parse_edit, parse_reference, plain_edit
from ganinv.editing.search import StrengthSearch
from ganinv.editing.strength import Response, parse_strength

__all__ = [
    "Edit",
    "FoundStrengths",
    "Reference",
    "Response",
    "StrengthSearch",
    "conditioned",
    "find_strengths",
    "parse_edit",
    "parse_reference",
    "parse_strength",
    "plain_edit",
]
