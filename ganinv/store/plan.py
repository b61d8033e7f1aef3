"""The records of a collection: its plan, its units, its errors, its manifest."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from pydantic import Field

from ganinv.config import StrictModel, digest
from ganinv.errors import ConfigError, StoreError
from ganinv.store.names import no_secrets

SCHEMA_VERSION = 1


class Unit(StrictModel):
    """Images that are computed, retried and written together. Its membership never changes."""

    index: int
    ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        return digest(list(self.ids))


class Plan(StrictModel):
    """What a run computes: decided once, before its first unit.

    Args:
        stage: the step that fills the collection, such as ``invert``.
        config: everything that shapes the result, JSON-able. Its digest decides whether a run is *the same* run.
        provenance: where it comes from (generator name and fingerprint, code version, seed, ...), JSON-able.
        units: the images, cut into units.
        additions: of a plan that grew (``ganinv.store.growth``), the index of the first unit of each addition.
        begun_on: what the first run computed on. Not recorded in parts, since equal units have equal bytes on any machine.
    """

    stage: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    units: tuple[Unit, ...]
    additions: tuple[int, ...] = ()
    begun_on: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stage: str,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        ids: Iterable[str],
        unit_size: int,
        group: Callable[[str], str] | None = None,
    ) -> Plan:
        """The plan for ``ids``: sorted, then cut into units of ``unit_size`` (the last may be smaller).

        Args:
            group: of an id; then each unit is a whole group, which is no larger than ``unit_size``.

        Raises:
            ConfigError: a group that is too large, or that has another one in between.
            StoreError: an id that came twice.
        """
        if unit_size < 1:
            raise ConfigError(f"unit_size must be at least 1 image, got {unit_size}")
        ordered = sorted(ids)
        twice = next((a for a, b in pairwise(ordered) if a == b), None)
        if twice is not None:
            raise StoreError(f"image ids must be unique, {twice!r} came twice: give every image an id of its own")
        return cls(
            stage=stage,
            config=_plain(config, "config"),
            provenance=_plain(provenance, "provenance"),
            units=_cut(ordered, unit_size, 0) if group is None else _groups(ordered, unit_size, group),
        )

    def lacking(self, now: Plan) -> tuple[Unit, ...]:
        """The images of ``now`` that this plan lacks, as units that continue its numbering, of the unit size of ``now``."""
        known = set(self.ids)
        new = [image_id for image_id in now.ids if image_id not in known]
        return _cut(new, max((len(unit.ids) for unit in now.units), default=1), len(self.units))

    def extended(self, units: Sequence[Unit]) -> Plan:
        """This plan with one more addition, or unchanged if that is empty."""
        if not units:
            return self
        more = {"units": (*self.units, *units), "additions": (*self.additions, len(self.units))}
        return self.model_copy(update=more)

    @property
    def config_digest(self) -> str:
        return digest(self.config)

    @property
    def units_digest(self) -> str:
        return digest_of(self.units)

    @property
    def ids(self) -> list[str]:
        """All image ids, sorted."""
        ids = [image_id for unit in self.units for image_id in unit.ids]
        return sorted(ids) if self.additions else ids

    def by_unit(self, ids: Iterable[str]) -> tuple[dict[int, set[str]], set[str]]:
        """``ids`` by the index of the unit that they belong to, and those that were never planned.

        Units are runs of the sorted ids, in the first plan and in each addition, so that few of a million ids are looked at.
        """
        found: dict[int, set[str]] = {}
        left = set(ids)
        for first, end in pairwise((0, *self.additions, len(self.units))):
            units = [unit for unit in self.units[first:end] if unit.ids]
            starts = [unit.ids[0] for unit in units]
            here: dict[int, set[str]] = {}
            for image_id in left if units else ():
                here.setdefault(max(bisect_right(starts, image_id) - 1, 0), set()).add(image_id)
            for place, some in here.items():
                if members := some.intersection(units[place].ids):
                    found[units[place].index] = members
                    left -= members
        return found, left

    def header(self) -> dict[str, Any]:
        """What every Parquet file of the collection says about itself (schema metadata ``ganinv``)."""
        known = {"schema_version": SCHEMA_VERSION, "stage": self.stage, "config_digest": self.config_digest}
        return {**self.provenance, **known}

    def to_json(self) -> bytes:
        record = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "config_digest": self.config_digest,
            "units_digest": self.units_digest,
            "config": self.config,
            "provenance": self.provenance,
        }
        if self.begun_on:
            record["begun_on"] = self.begun_on
        return with_units(record, self.units)

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Plan:
        """Read a plan back; a :class:`StoreError` when it is damaged or was changed by hand."""
        try:
            record = json.loads(data)
            units = read_units(record)
            fields = {key: record[key] for key in ("stage", "config", "provenance")}
            plan = cls(**fields, units=units, begun_on=record.get("begun_on", {}))
            intact = record["config_digest"] == plan.config_digest and record["units_digest"] == plan.units_digest
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{where} is not a plan ({error}): remove the collection and run again") from error
        if not intact:
            raise StoreError(f"{where} was changed after it was written (its digests differ): remove it and run again")
        return plan


@dataclass(frozen=True)
class RowError:
    """Why one image has no row.

    Args:
        code: a short word for programs, such as ``truncated`` or ``not_finite``.
        message: a sentence for people.
        attempts: how often it was tried.
    """

    image_id: str
    code: str
    message: str
    attempts: int = 1


@dataclass(frozen=True)
class Status:
    """Images of a collection: ``planned = done + failed + left``."""

    planned: int
    done: int
    failed: int
    left: int


class PartRecord(StrictModel):
    """One part as the manifest lists it. ``rows`` in the part, ``done`` and ``failed`` images of its unit."""

    name: str
    rows: int
    done: int
    failed: int
    bytes: int
    sha256: str


class Manifest(StrictModel):
    """Written last: the collection is complete, and this is all of it."""

    stage: str
    config_digest: str
    units_digest: str
    provenance: dict[str, Any]
    parts: tuple[PartRecord, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def failed(self) -> int:
        return sum(part.failed for part in self.parts)


def digest_of(units: Sequence[Unit]) -> str:
    """sha256 over the digests of some units."""
    return digest([unit.digest for unit in units])


def with_units(record: Mapping[str, Any], units: Sequence[Unit]) -> bytes:
    """A record with its units as JSON, one unit a line: Python's indenting encoder takes seconds for 100,000 ids, and all lines
    at once would be several times what is written."""
    text = json.dumps({**record, "units": []}, indent=1, sort_keys=True, ensure_ascii=False)
    before, empty, after = text.partition('\n "units": []')
    written = io.BytesIO()
    written.write(f"{before}{empty[:-1]}\n  ".encode())
    for k, unit in enumerate(units):
        each = {"index": unit.index, "digest": unit.digest, "ids": unit.ids}
        line = json.dumps(each, sort_keys=True, ensure_ascii=False)
        written.write((",\n  " + line if k else line).encode())
    written.write(f"\n ]{after}".encode())
    return written.getvalue()


def read_units(record: Mapping[str, Any]) -> tuple[Unit, ...]:
    """The units of a record that :func:`with_units` wrote; ``KeyError``, ``TypeError`` or ``ValueError`` for others."""
    return tuple(Unit(index=unit["index"], ids=unit["ids"]) for unit in record["units"])


def _groups(ids: Sequence[str], most: int, group: Callable[[str], str]) -> tuple[Unit, ...]:
    """A unit for each group of sorted ids."""
    found = [(name, tuple(members)) for name, members in groupby(ids, group)]
    seen = set[str]()
    for name, members in found:
        if name in seen:
            raise ConfigError(
                f"{name or '.'} has frames, and folders with frames between them: put each video into a folder of its own"
            )
        if len(members) > most:
            raise ConfigError(
                f"{name or '.'} has {len(members)} frames, and at most {most} are held in memory together: cut it into scenes, a "
                "folder each, or allow more with --unit-size"
            )
        seen.add(name)
    return tuple(Unit(index=k, ids=members) for k, (_, members) in enumerate(found))


def _cut(ordered: Sequence[str], unit_size: int, first: int) -> tuple[Unit, ...]:
    units = (ordered[start : start + unit_size] for start in range(0, len(ordered), unit_size))
    return tuple(Unit(index=i, ids=tuple(members)) for i, members in enumerate(units, first))


def _plain(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The value as JSON gives it back, so that a plan equals itself after a round trip."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the {what} of a plan must be plain JSON values: {error}") from error
    no_secrets(plain, f"the {what}")
    return plain
