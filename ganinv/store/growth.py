"""Plans that grow: images that were added to a data set are planned in additions, ``plan-0001.json``, ``plan-0002.json``, ...

The plan and its additions are created exclusively and never change, so existing parts stay. An addition records the digest
of the file that it continues, so that a file changed by hand is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from ganinv.errors import StoreError
from ganinv.store.objects import SIDE_BY_SIDE, Objects
from ganinv.store.plan import SCHEMA_VERSION, Plan, Unit, digest_of, read_units, with_units

_NAME = re.compile(r"plan-(\d{4,})\.json")


@dataclass(frozen=True)
class Planned:
    """A plan with those of its additions that were read, and the sha256 of the last of these files."""

    plan: Plan
    digest: str

    @classmethod
    def of(cls, data: bytes, where: str) -> Planned:
        """Of ``plan.json`` alone."""
        return cls(Plan.from_json(data, where), hashlib.sha256(data).hexdigest())

    def joined(self, data: bytes, where: str) -> Planned:
        """With one more addition; a :class:`StoreError` when it does not continue this."""
        try:
            record = json.loads(data)
            units, continues = read_units(record), record["continues"]
            intact = record["units_digest"] == digest_of(units) and units[0].index == len(self.plan.units)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StoreError(
                f"{where} is not an addition to a plan ({error}): put back what was written there"
            ) from error
        if continues != self.digest or not intact:
            raise StoreError(
                f"{where} does not continue the plan before it: one of the two was changed after it was written. Put back "
                "what was written there, or remove the collection and run again"
            )
        return Planned(self.plan.extended(units), hashlib.sha256(data).hexdigest())


def is_addition(name: str) -> bool:
    """Whether an object of a collection is an addition to its plan."""
    return _NAME.fullmatch(name) is not None


def read_on(objects: Objects, folder: str, planned: Planned) -> Planned:
    """``planned`` with the additions after those that it has: one request if there is none, and never a listing."""
    ahead = 1
    while True:
        paths = [f"{folder}/{_name(len(planned.plan.additions) + k)}" for k in range(1, ahead + 1)]
        with ThreadPoolExecutor(ahead) as pool:
            contents = list(pool.map(objects.read_if_there, paths))
        for path, data in zip(paths, contents, strict=True):
            if data is None:
                return planned
            planned = planned.joined(data, objects.where(path))
        ahead = min(2 * ahead, SIDE_BY_SIDE)


def grow(
    objects: Objects, folder: str, planned: Planned, now: Plan, prepare: Callable[[Plan], None] | None = None
) -> Planned:
    """Add the images of ``now`` that ``planned`` lacks, as one more addition. Removes the manifest first.

    If several runs do this at once, one is first, and the others add what is still new after it.

    Args:
        prepare: called with the grown plan before it can be seen by others.
    """
    while True:
        planned = read_on(objects, folder, planned)
        units = planned.plan.lacking(now)
        if not units:
            return planned
        if prepare is not None:
            prepare(planned.plan.extended(units))
        objects.remove(f"{folder}/_manifest.json")
        with suppress(FileExistsError):  # another's, or this one, when the storage wrote it and its answer was lost
            objects.create(f"{folder}/{_name(len(planned.plan.additions) + 1)}", _addition(planned, units, now))


def _addition(planned: Planned, units: Sequence[Unit], now: Plan) -> bytes:
    record = {
        "schema_version": SCHEMA_VERSION,
        "continues": planned.digest,
        "units_digest": digest_of(units),
        # Of the run that planned it, for people. What holds is what plan.json says.
        "config": now.config,
        "provenance": now.provenance,
    }
    return with_units(record, units)


def _name(number: int) -> str:
    return f"plan-{number:04d}.json"
