"""The inverters in the provenance of a collection: where each one is, and which one has a rule for edits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ganinv.methods.base import Inverter
from ganinv.methods.files import is_shipped
from ganinv.stages.encode import Encode
from ganinv.store.store import Store

KEYS = ("encoders", "edit_rule")
"""Keys that are passed on to collections derived from these codes: compressed ones, and edits."""


def inverters_origin(
    opened: Mapping[str, Inverter], stages: Sequence[Any], store: Store, begun: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Keys of a provenance.

    ``encoders``: name -> ``uri`` (of the store or the package by name, else a URL or a whole path, so that any process finds
    it), ``fingerprint``, ``needed`` (role -> the same, of what lies elsewhere), and ``heads`` where codes hold vectors that its
    heads turn into weight offsets. ``edit_rule``: the ``encoder`` that made the code last, where an edit of it is more than a
    moved code, whether it ``needs_images``, and their ``photo_side`` where that is more than the generator's.

    Args:
        opened: the method's inverters by name. stages: of the method, in their order.
        begun: the provenance of the codes that the method continued from.
    """
    goes_on = begun is not None and _start_of(stages[0]) == "code"
    kept = begun if begun is not None and goes_on else {}
    encoders = {**kept.get("encoders", {}), **{name: _entry(each, store) for name, each in opened.items()}}
    rule = kept.get("edit_rule")
    for stage in stages:
        if isinstance(stage, Encode):
            rule = _rule(stage.encoder, opened[stage.encoder])
        elif _start_of(stage) != "code":
            rule = None
    return ({"encoders": encoders} if encoders else {}) | ({"edit_rule": rule} if rule else {})


def handed_on(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a provenance that is passed on to collections derived from its codes."""
    return {key: origin[key] for key in KEYS if key in origin}


def _start_of(stage: Any) -> str:
    return str(getattr(stage, "start", None) or getattr(getattr(stage, "optimize", None), "start", "code"))


def _entry(inverter: Inverter, store: Store) -> dict[str, Any]:
    entry: dict[str, Any] = {"uri": _place(inverter.uri, store), "fingerprint": inverter.fingerprint}
    if needed := {role: _entry(each, store) for role, each in inverter.needed.items() if each.uri}:
        entry["needed"] = needed
    if inverter.weight_heads():
        entry["heads"] = True
    return entry


def _rule(name: str, inverter: Inverter) -> dict[str, Any] | None:
    if type(inverter).after_edit is Inverter.after_edit:
        return None
    rule: dict[str, Any] = {"encoder": name, "needs_images": inverter.edits_need_images}
    if inverter.photo_side > inverter.generator.resolution:
        rule["photo_side"] = inverter.photo_side
    return rule


def _place(uri: str, store: Store) -> str:
    own = store.objects.where("encoders") + "/"
    if uri.startswith(own):  # by its name, so that a store can be moved
        return uri.removeprefix(own)
    return uri if "://" in uri or is_shipped(uri) else os.path.abspath(uri)
