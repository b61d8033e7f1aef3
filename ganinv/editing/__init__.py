"""Editing: directions with strengths, applied to codes."""

from ganinv.editing.conditional import conditioned
from ganinv.editing.edit import Edit
from ganinv.editing.notation import Reference, parse_edit, parse_reference

__all__ = ["Edit", "Reference", "conditioned", "parse_edit", "parse_reference"]
