"""What somebody made is kept: an upload as a row of ``latents``, an edit as a row of ``edits``."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from threading import Lock

import pyarrow as pa

from flows.studio.shelf import Shelf
from flows.studio.subject import Strengths, Subject
from flows.studio.upload import Upload, collection_of
from ganinv.errors import ConfigError, GaninvError, StoreError
from ganinv.records.origin import handed_on
from ganinv.store import Collection, Plan
from tasks.engine import Engine, open_pools, provenance
from tasks.jobs.dataset import DatasetRef
from tasks.steps.edit_job import EditJob, EditSpec
from tasks.steps.edit_worker import EditWorker
from tasks.steps.invert import InvertJob, run_invert

PHOTOS = "inputs/studio"
"""Where the crops of uploads are, in the store: a data set as any other."""


class Saver:
    """Writes to a store, one thing at a time."""

    def __init__(self, shelf: Shelf, generator_uri: str, encoders: Mapping[str, str] | None = None) -> None:
        self._shelf, self._generator_uri, self._encoders = shelf, generator_uri, dict(encoders or {})
        self._lock = Lock()

    def save_photo(self, upload: Upload, method: str) -> str:
        """Write the crop into the store and invert it there, as a run does; the name of the collection.

        Raises:
            StoreError: the store cannot be written. DataError: the image failed.
        """
        with self._lock:
            store = self._shelf.store
            store.objects.put(f"{PHOTOS}/{upload.image_id}.png", upload.png())
            job = InvertJob(
                store=store.url,
                dataset=DatasetRef(url=store.objects.where(PHOTOS)),
                name=collection_of(method),
                method=method,
                generator=self._generator_uri,
                encoders=self._encoders,
            )
            with open_pools(Engine(kind="inline", quiet=True)) as pools:
                run_invert(job, pools)
            self._shelf.forget(job.collection_name)
        return job.collection_name

    def save_edit(self, subject: Subject, strengths: Strengths) -> Collection:
        """One more row of ``edits/studio-<latents>``: the edit of a row of ``latents``, at strength 1. Its column ``edit`` is the
        edit's notation with the versions of its directions, so that ``Edit.parse`` gives it again.

        Raises:
            ConfigError: nothing was moved, or the inversion is not a row. StoreError: the store cannot be written.
        """
        moves = {name: float(strength) for name, strength in strengths.items() if strength}
        if not moves:
            raise ConfigError("nothing is edited yet: move a slider first")
        if subject.unsaved:
            raise ConfigError("this inversion is not a row yet: save the photo first")
        versions = {name: self._shelf.directions[name].version for name in moves}
        named = {f"{name}@{versions[name]}": strength for name, strength in moves.items()}
        text = ",".join(f"{name}={strength:g}" for name, strength in named.items())
        store, generator = self._shelf.store, self._shelf.generator
        latents = store.latents[subject.latents]
        origin = latents.provenance()
        name = f"studio-{subject.latents.removeprefix('studio-')}"
        job = EditJob(
            store=store.url,
            latents=subject.latents,
            name=name,
            generator=self._generator_uri,
            encoders=self._encoders,
            edits=(EditSpec(name=text, directions=named, strengths=(1.0,)),),
        )
        more = {k: origin[k] for k in ("method", "distance_name") if k in origin} | handed_on(origin)
        plan = Plan.of(
            "edit",
            {"latents": subject.latents, "latents_digest": origin["config_digest"], "saved_by": "studio"},
            provenance(generator, latents=subject.latents, **more),
            [subject.image_id],
            unit_size=1,
        )
        edits = store.edits[name]
        with self._lock:
            worker = EditWorker(job, {key: versions[key.partition("@")[0]] for key in named}, generator)
            (row,) = worker.process([subject.image_id])
            if not isinstance(row, pa.Table):
                raise ConfigError(
                    f"an edit of what {subject.method} made looks at the photo of {subject.image_id!r} again, which is gone or "
                    f"another ({row.code}): take another method"
                )
            whole = edits.start(plan, grows=True)
            unit = next(unit for unit in whole.units if subject.image_id in unit.ids)
            if unit.index in edits.done():
                there = edits.read(ids=[subject.image_id])
                others = there.filter(pa.array([edit != text for edit in there["edit"].to_pylist()], pa.bool_()))
                row = pa.concat_tables([others, row], promote_options="default") if others.num_rows else row
            edits.write_part(unit.index, row, [], {})
            edits.finish()
        return edits


_FOLDERS = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|(?<![\w.…])/)(?:[^\s'\",;:()]+/)+")
"""Of a path or URL, all but the last part."""


def words(error: Exception, shelf: Shelf) -> str:
    """What went wrong, for somebody in a browser: without places on the machine that serves it."""
    if isinstance(error, StoreError) and _is_refused(error):
        return (
            "This store cannot be written to (it is read-only for the studio): nothing was saved. The picture can still be "
            "downloaded"
        )
    if isinstance(error, GaninvError):
        return _FOLDERS.sub("…/", str(error).replace(shelf.store.url, "the store"))
    raise error


def _is_refused(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PermissionError | NotImplementedError) or getattr(cause, "errno", None) == errno.EROFS:
            return True
        cause = cause.__cause__
    return False
