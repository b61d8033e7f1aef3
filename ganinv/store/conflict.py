"""Is a run that is started again the same run? If not, describe the difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ganinv.config import digest
from ganinv.errors import RunConflict
from ganinv.store.plan import Plan

Reread = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A configuration, as it is to be compared."""


def same_run(there: Plan, now: Plan, url: str, *, grows: bool = False, reread: Reread | None = None) -> Plan:
    """``there``, when ``now`` would compute the same rows; else a :class:`RunConflict` that names the differences.

    Compared are the stage, the configuration, the images, and every fingerprint in the provenance: the URL of a
    generator may stay while the file behind it changes.

    Args:
        grows: the images are not compared.
        reread: applied to both configurations before.
    """
    differences = _differences(there, now, reread or dict)
    if not grows:
        differences += _images(there, now)
    if not differences:
        return there
    more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
    raise RunConflict(
        f"a run exists already at {url} with other settings: {'; '.join(differences[:5])}{more}. "
        "Choose another name for this run (--name), or remove that folder"
    )


def _differences(there: Plan, now: Plan, reread: Reread) -> list[str]:
    found = []
    if there.stage != now.stage:
        found.append(f"stage is {there.stage!r} there, {now.stage!r} now")
    if there.config_digest != now.config_digest:
        old, new = reread(there.config), reread(now.config)
        found += _changed(_flat(old), _flat(new)) or ([] if digest(old) == digest(new) else ["the configuration"])
    return found + _changed(_fingerprints(there), _fingerprints(now))


def _images(there: Plan, now: Plan) -> list[str]:
    if there.ids == now.ids:
        return []
    old, new = set(there.ids), set(now.ids)
    what = "steps" if now.stage == "train" else "images"
    return [f"{len(new - old)} {what} came and {len(old - new)} went, such as {min(old ^ new)!r}"]


def _changed(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    absent = object()
    lines = []
    for key in sorted(
        {*there, *now}, key=lambda key: (not key.endswith("name"), key)
    ):  # what was chosen, then what follows
        old, new = there.get(key, absent), now.get(key, absent)
        if old is absent:
            lines.append(f"{key} is new ({_short(new)})")
        elif new is absent:
            lines.append(f"{key} is missing ({_short(old)} there)")
        elif old != new:
            lines.append(f"{key} is {_short(old)} there, {_short(new)} now")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text[:13]}...'" if _HASH.fullmatch(text) else text if len(text) <= 60 else f"{text[:57]}..."


_HASH = re.compile("'[0-9a-f]{40,}'")


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted keys: ``stages.0.steps``."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inner = dict(enumerate(item)) if isinstance(item, list) else item
        if isinstance(inner, Mapping) and inner:
            flat |= _flat({str(k): v for k, v in inner.items()}, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _fingerprints(plan: Plan) -> dict[str, Any]:
    return {key: value for key, value in plan.provenance.items() if key.endswith("fingerprint")}
