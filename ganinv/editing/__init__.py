"""Editing: directions with strengths, applied to codes."""

from ganinv.editing.edit import Edit, conditioned

__all__ = ["Edit", "conditioned"]
