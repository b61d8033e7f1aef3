"""``edit``: named directions with strengths on stored inversions; images on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from ganinv.codes.code import Code
from ganinv.config import reread
from ganinv.directions.direction import Direction
from ganinv.editing.calibrated import target_of
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.records.codes import HOLDS
from ganinv.records.origin import handed_on
from ganinv.store import Collection, Plan, Store, open_store
from ganinv.store.directions import SHIPPED_VERSION
from tasks.codes import PLACES
from tasks.engine import Pools, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.scores import labeller_state
from tasks.steps.edit_job import EditJob, EditSpec
from tasks.steps.edit_references import References
from tasks.steps.edit_worker import EditWorker

__all__ = ["EditJob", "EditSpec", "run_edit"]

UNIT_BYTES = 64 * 2**20
"""The most that the latents of one unit come to: a worker holds them twice, once as they are encoded."""


def run_edit(job: EditJob, pools: Pools) -> dict[str, Any]:
    """Fill ``edits/<name>``: one row per image, edit and strength. Returns counts and the collection's URL; with calibrated
    strengths also how many of them were ``reached``, ``out_of_reach``, ...; and which directions, for want of one in the store,
    are those that ship with the generator."""
    store, generator = open_store(job.store), open_generator(job.generator)
    latents = store.latents[job.latents]
    origin = latents.provenance()
    check_generator(origin, generator, f"latents {job.latents!r}")
    reader = job.reader(store, latents, generator).check(edits=True)
    directions = _newest(job, store, generator)
    _try_out(job, directions, generator)
    references = References(job, store, generator)
    config = job.model_dump(mode="json", exclude=PLACES | ({"store", "name"} if job.calibrated else _UNCALIBRATED))
    if job.calibrated:
        config |= labeller_state(job.labeller, open_labeller(job.labeller))
    versions = {key: direction.version for key, direction in directions.items()}
    config |= {"latents_digest": origin["config_digest"], "direction_versions": versions} | references.state()
    units = latents.plan()
    columns = ["image_id", HOLDS if HOLDS in latents.read(ids=[]).schema.names else "extras_uri"]
    rows = latents.read(columns)
    _check_segments(job, rows)
    good = set(rows["image_id"].to_pylist())
    ids = [i for i in units.ids if i in good]
    size = max(1, UNIT_BYTES // (generator.num_ws * generator.w_dim * 4 * job.rows_each))
    renders = job.images != "none" or job.calibrated
    if renders or reader.edits_change_extras(rows) or any(spec.segment for spec in job.edits):
        size = min(size, max(len(unit.ids) for unit in units.units))  # these take time, not memory
    used = sorted(f"{direction.name}@{direction.version}" for direction in directions.values())
    more = {k: origin[k] for k in ("method", "distance_name") if k in origin} | handed_on(origin) | {"directions": used}
    plan = Plan.of("edit", config, provenance(generator, latents=job.latents, **more), ids, size)
    collection = store.edits[job.name]
    spec, same = WorkerSpec(EditWorker, {"job": job}), partial(reread, EditJob)
    result = run_units(collection, plan, spec, pools, "edit", gpu=renders, grows=True, reread=same, made_of=[latents])
    shipped = sorted({d.name for d in directions.values() if d.version == SHIPPED_VERSION})
    result |= {"shipped_directions": shipped} if shipped else {}
    return result | ({"outcomes": _outcomes(collection)} if job.calibrated else {})


def _check_segments(job: EditJob, rows: pa.Table) -> None:
    """An edit of one segment is of codes that have some: where none has, it would leave every image as it is.

    Raises:
        ConfigError: none has.
    """
    wanted = next((spec for spec in job.edits if spec.segment), None)
    if wanted is None or HOLDS not in rows.schema.names:  # rows that an older version made do not say what they have
        return
    if "segments" not in pc.unique(pc.list_flatten(rows[HOLDS])).to_pylist():
        raise ConfigError(
            f"edit {wanted.name!r} is of the segment {wanted.segment!r}, and no image of latents {job.latents!r} has segments: "
            "invert with a method that makes some, or omit the segment"
        )


_UNCALIBRATED = {"store", "name", "labeller", "search"}


def _outcomes(collection: Collection) -> dict[str, int]:
    """How many of the strengths that were looked for came to what."""
    count: Counter[str] = Counter()
    for batch in collection.scan(["outcome"], batch_size=65536):
        count.update(outcome for outcome in batch["outcome"].to_pylist() if outcome)
    return dict(count)


def _newest(job: EditJob, store: Store, generator: Generator) -> dict[str, Direction]:
    """Every direction of the edits, ``smile`` or ``smile@3``, for this generator."""
    found: dict[str, Direction] = {}
    for spec in job.moves:
        for reference in spec.edit(1.0).references:
            trust = reference.name in spec.trust
            get = store.directions.get
            found[reference.stored] = get(reference.name, generator.fingerprint, reference.version, trust=trust)
    return found


def _try_out(job: EditJob, directions: Mapping[str, Direction], generator: Generator) -> None:
    """Apply every edit to the mean of W, to refuse what fits no code before any work is done."""
    labeller = open_labeller(job.labeller) if job.calibrated else None
    w = generator.w_mean.expand(1, generator.num_ws, -1)
    code = Code(w=w, z=w.new_zeros(1, generator.z_dim))
    for spec in job.moves:
        edit = spec.edit(1.0)
        if labeller is not None and edit.responses:
            target_of(edit, edit.resolve(directions, generator.fingerprint, generator.name), labeller)
            edit = replace(edit, strengths=dict.fromkeys(edit.strengths, 1.0))
        else:
            edit = spec.edit(max(spec.strengths, key=abs))
        edited = edit.apply(code, directions, generator=generator)
        if not all(torch.isfinite(moved).all() for moved in (edited.w, *(edited.styles or {}).values())):
            raise ConfigError(
                f"edit {spec.name!r} is too strong: the latent is no longer a number. Steps of 1 to 5 are usual"
            )
        try:
            generator.synthesize(edited, stop=0)
        except ValueError as error:  # layers of S that this generator does not have
            raise ConfigError(f"edit {spec.name!r} is not for generator {generator.name!r}: {error}") from error
