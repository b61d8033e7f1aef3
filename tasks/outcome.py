"""The outcome of a run: why images failed, with counts, and whether too many did."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ganinv.errors import ConfigError, DataError, GaninvError, printable
from ganinv.store import Collection
from ganinv.store.plan import Manifest
from ganinv.store.tensors import parquet_table

ALL = "all"
"""``allow_failed``: every image may fail."""
SHARD = "shard"
"""The error code of a file that contains an unknown number of images."""


def failures(collection: Collection, manifest: Manifest) -> dict[str, Any]:
    """``{"failures": {"images": of how many, "reasons": [{"code", "images", "message"}, ...]}}``, the most frequent first, with
    one of the messages each; nothing if none failed."""
    if not manifest.failed:
        return {}
    files = [f"{collection.path}/{part.name.replace('part-', 'errors-', 1)}" for part in manifest.parts if part.failed]
    counts: Counter[str] = Counter()
    messages: dict[str, str] = {}
    for data in collection.objects.read_many(files):
        table = parquet_table(data, columns=["code", "message"])
        for code, message in zip(table["code"].to_pylist(), table["message"].to_pylist(), strict=True):
            counts[code] += 1
            messages.setdefault(code, message)
    reasons = [{"code": code, "images": n, "message": messages[code]} for code, n in counts.most_common()]
    return {"failures": {"images": sum(part.done + part.failed for part in manifest.parts), "reasons": reasons}}


def runs_of(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The collections that a result tells of: of a step, of several, or of a chain of them."""
    if "collection" in result:
        yield result
        return
    for value in result.values():
        if isinstance(value, Mapping):
            yield from runs_of(value)


def lines(result: Mapping[str, Any]) -> list[str]:
    """Why images failed, for people: a line for each collection, and one for each reason."""
    found = []
    for run in runs_of(result):
        if "failures" in run:
            what = "fits" if run["collection"].startswith("fits/") else "images"
            found.append(f"{run['collection']}: {run['failed']:,} of {run['failures']['images']:,} {what} failed")
            found += [
                f"  {reason['images']:,} {reason['code']}, such as {printable(reason['message']):.300}"
                for reason in run["failures"]["reasons"]
            ]
    return found


def check_faces(result: Mapping[str, Any]) -> None:
    """Of ``align``, where other steps follow: without a face there is nothing for them.

    Raises:
        DataError: no photo has one. Says why.
    """
    if not result["rows"]:
        why = "\n".join(["no photo has a face that can be used, so the steps after align are left out", *lines(result)])
        raise DataError(why)


def is_too_much(result: Mapping[str, Any], allowed: str | None) -> bool:
    """Whether more failed than is allowed.

    Args:
        allowed: a number of images (``10``), a share (``5%``), or ``all``. None: any number but all of them, and no whole
            shard, of which nobody knows how many images it holds.

    Raises:
        ConfigError: ``allowed`` is none of these.
    """
    if allowed is not None and allowed != ALL and not re.fullmatch(r"\d+|\d+(\.\d+)?%", allowed):
        raise ConfigError(f"--allow-failed takes a number of images (10), a share (5%) or {ALL}, got {allowed!r}")
    return any(_exceeds(run, allowed) for run in runs_of(result))


def _exceeds(run: Mapping[str, Any], allowed: str | None) -> bool:
    if "failures" not in run or allowed == ALL:
        return False
    failed, images = run["failed"], run["failures"]["images"]
    if allowed is None:
        return failed == images or any(reason["code"] == SHARD for reason in run["failures"]["reasons"])
    limit = images * float(allowed[:-1]) / 100 if allowed.endswith("%") else int(allowed)
    return bool(failed > limit)


def take_back(collection: Collection) -> None:
    """Withdraw a plan of which nothing was computed, to free its name: a run that did not begin leaves nothing.

    The plan is removed last. If another run of this name began at the same moment and has computed something, its results and
    plan stay.
    """
    with contextlib.suppress(GaninvError):  # the error that ended the run is the one to be told
        if collection.done():
            return
        names = collection.objects.names(collection.path)
        planned = [name for name in names if re.fullmatch(r"(_|plan-).*", name)]
        for name in [*planned, "plan.json"]:
            collection.objects.remove(f"{collection.path}/{name}")
        if not collection.objects.names(collection.path):
            collection.objects.remove_folder(collection.path)
        collection.__dict__.pop("_planned", None)
