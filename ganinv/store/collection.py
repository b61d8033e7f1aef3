"""``Collection``: one table of the store, written unit by unit; a run resumes from the parts that exist."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ganinv.errors import StoreError, did_you_mean
from ganinv.store.conflict import Reread, same_run
from ganinv.store.growth import Planned, grow, is_addition, read_on
from ganinv.store.names import checked_name
from ganinv.store.objects import Objects
from ganinv.store.plan import Manifest, PartRecord, Plan, RowError, Status, Unit
from ganinv.store.reading import read_part
from ganinv.store.tensors import parquet_bytes, parquet_table, read_header

_ERRORS = pa.schema(
    [("image_id", pa.string()), ("code", pa.string()), ("message", pa.string()), ("attempts", pa.int32())]
)
_TIMINGS = pa.schema([("image_id", pa.string()), ("seconds", pa.float64())])
_log = logging.getLogger("ganinv.store")
_PART = re.compile(r"part-(\d{5,})\.parquet")


class Collection:
    """One table, ``<root>/<kind>/<name>``. Rows come back sorted by ``image_id``.

    Pickles as (objects, kind, name), so workers can receive it or open their own.
    """

    def __init__(self, objects: Objects, kind: str, name: str) -> None:
        self.objects, self.kind, self.name = objects, checked_name("kind", kind), checked_name("collection", name)

    @property
    def path(self) -> str:
        """Path relative to the store's root."""
        return f"{self.kind}/{self.name}"

    @property
    def url(self) -> str:
        return self.objects.where(self.path)

    def __repr__(self) -> str:
        return f"Collection({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.objects, self.kind, self.name)

    def exists(self) -> bool:
        """Whether a run has been started under this name. Asks the storage only if the plan was not read yet."""
        return "_planned" in self.__dict__ or self.objects.read_if_there(f"{self.path}/plan.json") is not None

    def start(
        self,
        plan: Plan,
        *,
        grows: bool = False,
        reread: Reread | None = None,
        prepare: Callable[[Plan], None] | None = None,
    ) -> Plan:
        """Begin or resume a run. Returns its plan.

        The first caller's plan is created exclusively. Later callers with the same stage, configuration, images and
        fingerprints get that first plan (its units may be divided differently from theirs); others get a
        :class:`~ganinv.errors.RunConflict` that names the difference.

        Args:
            grows: accept new images, which are planned as one more addition (``ganinv.store.growth``), and images that
                disappeared, which keep their rows. Existing parts stay.
            reread: applied to both configurations before they are compared, for instance to read an older one with today's
                models.
            prepare: called with a grown plan before other runs can see it, to write what their workers need for it.
        """
        data = plan.to_json()
        try:
            self.objects.create(f"{self.path}/plan.json", data)
        except FileExistsError:
            self.__dict__.pop("_planned", None)
            there = same_run(self.plan(), plan, self.url, grows=grows, reread=reread)
            if grows:
                self._say_gone(there, plan)
                self._planned = grow(self.objects, self.path, self._planned, plan, prepare)
            return self._planned.plan
        self._planned = Planned(plan, hashlib.sha256(data).hexdigest())
        return plan

    def plan(self) -> Plan:
        """The plan of the run, with its additions; a :class:`StoreError` if nothing was started under this name."""
        return self._planned.plan

    @cached_property
    def _planned(self) -> Planned:
        data = self.objects.read_if_there(f"{self.path}/plan.json")
        if data is None:
            known = self.objects.names(self.kind)
            there = ", ".join(known) or "none yet"
            raise StoreError(
                f"no {self.kind} named {self.name!r} in the store {self.objects.url}{did_you_mean(self.name, known)}; "
                f"there are: {there}. Run the step that makes it first, or check the store's URL"
            )
        return read_on(self.objects, self.path, Planned.of(data, f"{self.url}/plan.json"))

    def _plan_now(self) -> Plan:
        """The plan, with what another run added since it was read."""
        self._planned = read_on(self.objects, self.path, self._planned)
        return self._planned.plan

    def _say_gone(self, there: Plan, now: Plan) -> None:
        gone = set(there.ids).difference(now.ids)
        if gone:
            _log.warning(
                "%d of the %d images of %s are not among those of this run, such as %r: what they have stays",
                *(len(gone), len(there.ids), self.url, min(gone)),
            )

    def done(self) -> set[int]:
        """Indexes of the units whose part exists."""
        matches = (_PART.fullmatch(name) for name in self.objects.names(self.path))
        return {int(match[1]) for match in matches if match}

    def write_part(
        self, unit_index: int, table: pa.Table, errors: Sequence[RowError], seconds: Mapping[str, float]
    ) -> None:
        """Write the results of one unit. The part is written last: if it exists, the unit is done.

        Args:
            table: rows of the successful images, with ``image_id``; sorted here. An image may have several rows.
            errors: one for every image of the unit without a row. If the unit is done already and only some of its images
                are written (:meth:`reopen`), the others keep their rows and errors, and attempts add up.
            seconds: image id -> time it took; kept out of the part, so that a repeated unit gives equal bytes.
        """
        unit = self._unit(unit_index)
        again = self.objects.read_if_there(self._file("part", unit_index)) is not None
        let_go: Set[str] = set()
        if again:
            table, errors, seconds, let_go = self._beside(unit, table, errors, seconds)
        _check_complete(unit, table, errors, let_go)
        self._write(unit, table, errors, seconds, again)

    def amend(
        self,
        uris: Mapping[str, str] | None = None,
        errors: Mapping[str, RowError] | None = None,
        let_go: Iterable[str] = (),
    ) -> int:
        """Change the records of images of finished units without computing anything. Returns how many units were rewritten.

        Args:
            uris: image id -> where its image is now (``source_uri``).
            errors: image id -> why it no longer has a row.
            let_go: images that no longer have a row or an error: a shard that is whole again, or an image that disappeared and
                whose content is now that of another.
        """
        uris, errors, gone = uris or {}, errors or {}, set(let_go)
        done, found = self.done(), self.plan().by_unit({*uris, *errors, *gone})[0]
        units = [self._unit(index) for index in sorted(found) if index in done]
        changed = 0
        for unit in units:
            old = self._side_table("errors", _ERRORS, [unit.index]).to_pylist()
            times = {row["image_id"]: row["seconds"] for row in self.timings([unit.index]).to_pylist()}
            table = read_part(self.objects, self._file("part", unit.index), None, None)
            out = gone | errors.keys()
            kept = table.filter(pc.invert(pc.is_in(table["image_id"], pa.array(sorted(out), pa.string()))))
            kept = _relocated(kept, uris)
            failures = [RowError(**row) for row in old if row["image_id"] not in out]
            failures += [errors[i] for i in unit.ids if i in errors]
            if kept.equals(table) and [vars(error) for error in failures] == old:
                continue
            if not changed:
                self.objects.remove(f"{self.path}/_manifest.json")
            changed += 1
            self._write(unit, kept, failures, {i: s for i, s in times.items() if i not in gone}, again=True)
        return changed

    def _write(
        self, unit: Unit, table: pa.Table, errors: Sequence[RowError], seconds: Mapping[str, float], again: bool
    ) -> None:
        unit_index = unit.index
        header: dict[str, Any] = {**self.plan().header(), "unit": unit_index, "unit_digest": unit.digest}
        failures = [vars(error) for error in sorted(errors, key=lambda e: e.image_id)]
        timings = [{"image_id": image_id, "seconds": float(s)} for image_id, s in sorted(seconds.items())]
        part = parquet_bytes(_sorted(table), header)
        written = {"rows": table.num_rows, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        files = {
            "timings": parquet_bytes(pa.Table.from_pylist(timings, _TIMINGS), header),
            # What the manifest says of the part is here too, so that writing it takes no reading of every part.
            "errors": parquet_bytes(pa.Table.from_pylist(failures, _ERRORS), {**header, "part": written}),
            "part": part,
        }
        # A part that is there already goes before its errors: a process that is killed between the two leaves an image that went
        # well with an old error beside its row, and none without either. Of an image that loses its row the error goes first.
        if again and failures:
            old = self._side_table("errors", _ERRORS, [unit_index]).to_pylist()
            failing = {error["image_id"] for error in failures}
            both = [*failures, *(error for error in old if error["image_id"] not in failing)]
            if len(both) > len(old):
                both.sort(key=lambda error: str(error["image_id"]))
                self.objects.put(
                    self._file("errors", unit_index), parquet_bytes(pa.Table.from_pylist(both, _ERRORS), header)
                )
        for kind in ("timings", "part", "errors") if again else files:
            self.objects.put(self._file(kind, unit_index), files[kind])

    def reopen(self, failed: bool = True, also: Iterable[str] = ()) -> list[Unit]:
        """The failed images of finished units, and those of ``also``, as units to compute again. :meth:`write_part` adds
        their rows to the others, or replaces the rows they had.

        This removes the manifest; :meth:`finish` writes it again.
        """
        again = {*(self.errors()["image_id"].to_pylist() if failed else ()), *also}
        done = self.done() if again else set()
        units = [
            Unit(index=unit.index, ids=tuple(image_id for image_id in unit.ids if image_id in again))
            for unit in self.plan().units
            if unit.index in done and not again.isdisjoint(unit.ids)
        ]
        if units:
            self.objects.remove(f"{self.path}/_manifest.json")
        return units

    def finish(self, run: Plan | None = None) -> Manifest:
        """Write the manifest. Every unit must be done; calling it again writes the same manifest.

        Args:
            run: the plan that :meth:`start` returned to the run that ends here. If another run has added images in the
                meantime and is working on them, that run writes the manifest, and the one returned here has only the parts
                of ``run``.
        """
        plan = self._plan_now()
        mine = plan if run is None else run
        manifest, complete = self._finished(plan, mine)
        # Another run may have added images and finished between our reading of the plan and our writing, and ours of before
        # would stand where its manifest was: who writes looks again.
        while complete and (now := self._plan_now()).units != plan.units:
            plan = now
            manifest, complete = self._finished(plan, mine)
        return manifest

    def _finished(self, plan: Plan, mine: Plan) -> tuple[Manifest, bool]:
        """Write the manifest of ``plan`` if all of it is done; else return that of ``mine`` without writing it."""
        done = self.done()
        left = [unit.index for unit in mine.units if unit.index not in done]
        if left:
            raise StoreError(
                f"{self.url} is not finished: {len(left)} of {len(mine.units)} units are left (first: {left[0]}). "
                "Run the step again, it computes only what is missing"
            )
        complete = all(unit.index in done for unit in plan.units)
        plan = plan if complete else mine
        manifest = Manifest(
            stage=plan.stage,
            config_digest=plan.config_digest,
            units_digest=plan.units_digest,
            provenance=plan.header(),
            parts=tuple(self._records(plan.units)),
        )
        if complete:
            text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True)
            self.objects.put(f"{self.path}/_manifest.json", text.encode())
        return manifest, complete

    def manifest(self) -> Manifest | None:
        """The manifest of a finished collection; None if it is not finished, or images have been added since."""
        data = self.objects.read_if_there(f"{self.path}/_manifest.json")
        if data is None:
            return None
        try:
            manifest = Manifest.model_validate_json(data)
        except ValueError as error:
            raise StoreError(
                f"{self.url}/_manifest.json is damaged ({error}): remove it and run the step again"
            ) from error
        return manifest if len(manifest.parts) == len(self.plan().units) else None

    def read(self, columns: Sequence[str] | None = None, ids: Iterable[str] | None = None) -> pa.Table:
        """All existing rows (or those of ``ids``) as one table, sorted by ``image_id``, without images that failed or are not
        done yet.

        An id that was never planned, or a collection without any part yet, is a :class:`StoreError`.
        """
        tables = list(self._tables(columns, ids, to_sort=True))
        filled = [table for table in tables if table.num_rows]
        if tables:
            # A run that an older version began has parts with fewer columns: their rows are null there.
            table = pa.concat_tables(
                filled or [max(tables, key=lambda table: table.num_columns)], promote_options="default"
            )
            if not self.plan().additions:
                return table
            table = _sorted(table)
            return table if columns is None or "image_id" in columns else table.drop_columns("image_id")
        for index in sorted(self.done()):  # nothing of these ids is there, but their columns are known
            return read_part(self.objects, self._file("part", index), columns, None).slice(0, 0)
        raise StoreError(f"{self.url} has no finished unit yet: wait for the run, or start it again")

    def scan(
        self, columns: Sequence[str] | None = None, ids: Iterable[str] | None = None, batch_size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """The rows of :meth:`read`, a batch of at most ``batch_size`` at a time; one part is in memory at once.

        They are sorted by ``image_id``, except if the plan has grown: then the rows of the first plan come first, followed by
        those of each addition, each group sorted.
        """
        for table in self._tables(columns, ids):
            yield from (batch for batch in table.to_batches(max_chunksize=batch_size) if batch.num_rows)

    def errors(self) -> pa.Table:
        """Images that failed: image_id, code, message, attempts."""
        return self._side_table("errors", _ERRORS)

    def timings(self, units: Iterable[int] | None = None) -> pa.Table:
        """image_id, seconds: of all images that are done or failed, or of those in some finished ``units``."""
        return self._side_table("timings", _TIMINGS, units)

    def provenance(self) -> dict[str, Any]:
        """Where the rows come from: the schema metadata of the parts, without the unit; and what the first run computed on
        (``begun_on``), if it is known. Later runs are in ``_summary.parquet``."""
        plan = self.plan()
        return plan.header() | ({"begun_on": plan.begun_on} if plan.begun_on else {})

    def status(self) -> Status:
        """How many images are planned, done, failed, left."""
        plan, done = self.plan(), self.done()
        reached = sum(len(unit.ids) for unit in plan.units if unit.index in done)
        failed = self.errors().num_rows
        planned = sum(len(unit.ids) for unit in plan.units)
        return Status(planned=planned, done=reached - failed, failed=failed, left=planned - reached)

    def remove(self) -> None:
        """Remove the whole collection, including extras. The plan is removed last, and before it its additions from the last to
        the first, so an interrupted removal can be repeated."""
        names = self.objects.names(self.path)
        plans = [*[name for name in names if is_addition(name)][::-1], "plan.json"]
        extras = [f"extras/{name}" for name in self.objects.names(f"{self.path}/extras")]
        others = [name for name in names if name not in ("extras", *plans)]
        for name in ["_manifest.json", *others, *extras, *plans]:
            self.objects.remove(f"{self.path}/{name}")
        self.objects.remove_folder(self.path)
        self.__dict__.pop("_planned", None)

    def _beside(
        self, unit: Unit, table: pa.Table, errors: Sequence[RowError], seconds: Mapping[str, float]
    ) -> tuple[pa.Table, list[RowError], dict[str, float], Set[str]]:
        """Rows, errors and times of some images of a finished unit, merged with those of its other images; and the images that
        :meth:`amend` let go."""
        old = {
            row["image_id"]: RowError(**row) for row in self._side_table("errors", _ERRORS, [unit.index]).to_pylist()
        }
        times = {row["image_id"]: row["seconds"] for row in self.timings([unit.index]).to_pylist()}
        others = set(unit.ids) - set(table["image_id"].to_pylist()) - {error.image_id for error in errors}
        kept = read_part(self.objects, self._file("part", unit.index), None, others)
        if kept.num_rows:  # a part without rows may not know the columns of the others
            table = pa.concat_tables([kept, table], promote_options="default") if table.num_rows else kept
        tried = [replace(e, attempts=e.attempts + old[e.image_id].attempts) if e.image_id in old else e for e in errors]
        there = set(kept["image_id"].to_pylist())
        waiting = [old[image_id] for image_id in old.keys() & others - there]
        let_go = others - there - old.keys()
        return table, [*waiting, *tried], {i: s for i, s in times.items() if i in others} | dict(seconds), let_go

    def _file(self, kind: str, index: int) -> str:
        return f"{self.path}/{kind}-{index:05d}.parquet"

    def _unit(self, index: int) -> Unit:
        units = self.plan().units
        if index >= len(units):
            units = self._plan_now().units
        if not 0 <= index < len(units):
            raise StoreError(
                f"{self.url} has units 0 to {len(units) - 1}, got {index}: use the plan that start() returned"
            )
        return units[index]

    def _records(self, units: Sequence[Unit]) -> Iterator[PartRecord]:
        """The manifest's record of each part: from its errors table, or from the part itself if the table belongs to another
        attempt."""
        sizes = {entry.name: entry.bytes for entry in self.objects.entries(self.path)}
        for first in range(0, len(units), 256):
            some = units[first : first + 256]
            tables = self.objects.read_many([self._file("errors", unit.index) for unit in some])
            for unit, content in zip(some, tables, strict=True):
                path = self._file("part", unit.index)
                name = path.rpartition("/")[2]
                errors = pq.ParquetFile(io.BytesIO(content))
                written = read_header(errors.schema_arrow).get("part")
                if written is None or written["bytes"] != sizes.get(name):
                    data = self.objects.read(path)
                    rows = pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
                    written = {"rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                failed = errors.metadata.num_rows
                yield PartRecord(name=name, done=len(unit.ids) - failed, failed=failed, **written)

    def _tables(
        self, columns: Sequence[str] | None, ids: Iterable[str] | None, to_sort: bool = False
    ) -> Iterator[pa.Table]:
        if isinstance(columns, str) or isinstance(ids, str):
            raise ValueError(
                f"columns and ids are lists, got the string {columns if isinstance(columns, str) else ids!r}"
            )
        wanted = None if ids is None else self._by_unit(ids)
        plan, done = self.plan(), self.done()
        if to_sort and plan.additions and columns is not None and "image_id" not in columns:
            columns = [*columns, "image_id"]
        for unit in plan.units:
            here = None if wanted is None else wanted.get(unit.index)
            if unit.index in done and (wanted is None or here):
                yield read_part(self.objects, self._file("part", unit.index), columns, here)

    def _by_unit(self, ids: Iterable[str]) -> dict[int, set[str]]:
        """Ids by the index of the unit that they belong to."""
        ids, plan = set(ids), self.plan()
        found, unknown = plan.by_unit(ids)
        if unknown and self._plan_now() is not plan:
            found, unknown = self.plan().by_unit(ids)
        if unknown:
            hint = did_you_mean(min(unknown), self.plan().ids)
            raise StoreError(
                f"{self.url} was never to hold {len(unknown)} of these ids, the first {min(unknown)!r}{hint}"
            )
        return found

    def _side_table(self, kind: str, schema: pa.Schema, units: Iterable[int] | None = None) -> pa.Table:
        self.plan()
        chosen = sorted(self.done() if units is None else units)
        contents = self.objects.read_many([self._file(kind, index) for index in chosen])
        tables = [parquet_table(content).replace_schema_metadata() for content in contents]
        return pa.concat_tables([schema.empty_table(), *tables])


def _sorted(table: pa.Table) -> pa.Table:
    """Sorted by ``image_id``; rows of one image keep their order."""
    ids = table["image_id"].combine_chunks()
    if pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py() is not False:  # to sort it would copy all of it
        return table
    return table.take(pc.sort_indices(ids))


def _relocated(table: pa.Table, uris: Mapping[str, str]) -> pa.Table:
    """The rows with other sources."""
    if not uris or "source_uri" not in table.schema.names:
        return table
    ids, there = table["image_id"].to_pylist(), table["source_uri"].to_pylist()
    column = pa.array([uris.get(i, uri) for i, uri in zip(ids, there, strict=True)], pa.string())
    return table.set_column(table.schema.get_field_index("source_uri"), "source_uri", column)


def _check_complete(unit: Unit, table: pa.Table, errors: Sequence[RowError], let_go: Set[str] = frozenset()) -> None:
    """Images in = images with rows + images with an error + images of which was let go."""
    if "image_id" not in table.schema.names or table.schema.field("image_id").type != pa.string():
        raise StoreError(f"a part needs a string column image_id, got columns {table.schema.names}")
    good, bad = set(table["image_id"].to_pylist()), {error.image_id for error in errors}
    problems = {
        "without row or error": set(unit.ids) - good - bad - let_go,
        "of another unit": (good | bad) - set(unit.ids),
        "with both rows and an error": good & bad,
    }
    for what, ids in problems.items():
        if ids:
            raise StoreError(
                f"unit {unit.index} has {len(ids)} image(s) {what}, such as {min(ids)!r}: nothing was written"
            )
    if len(bad) != len(errors):
        raise StoreError(f"unit {unit.index} has two errors for one image: report the last only; nothing was written")
