"""``leaderboard``: several methods on several data sets, each image judged; resumed, and grown by a method or a data set."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.data.demo import demo_dataset
from ganinv.data.png import png_bytes
from ganinv.errors import ConfigError, DataError, GaninvError
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.judges.identity import verify
from ganinv.leaderboard.board import BOARD, CONTROL, HALVES, JUDGED, REFERENCES, collection_name, inverts_again
from ganinv.leaderboard.editing import channels_of
from ganinv.leaderboard.halves import PHOTOS, lower_half
from ganinv.leaderboard.jury import Jury, installed
from ganinv.leaderboard.protocol import CHANNEL, LeaderboardProtocol
from ganinv.leaderboard.references import ReferenceJury
from ganinv.stages.method import MethodConfig, method_config
from ganinv.store import Plan, Store, open_store
from ganinv.store.names import checked_name
from tasks.engine import Pools, provenance, run_units
from tasks.inverters import open_named
from tasks.jobs.dataset import DatasetRef
from tasks.pool import RunStopped, WorkerSpec
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.halves import HalvesWorker, PhotosWorker
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.judging import (
    AT_ONCE,
    ChannelsWorker,
    ConsistencyWorker,
    JudgingWorker,
    ReferencesWorker,
    RowsWorker,
    minimised,
)
from tasks.steps.leaderboard_job import SAMPLES, LeaderboardJob
from tasks.steps.sample import SampleJob, run_sample

_log = logging.getLogger("ganinv.tasks")

LOW_QUALITY = "skimage://lfw_subset"
"""Named in the place of a URL: scikit-image's grey faces of 25 pixels, enlarged, in the frame of aligned portraits."""
NOTED = 1024
"""Images of a data set on which the judge of identity is checked, at most."""


def run_leaderboard(job: LeaderboardJob, pools: Pools) -> dict[str, Any]:
    """Fill ``leaderboard/<data set>.<method>``. Returns counts, and why a method was not run.

    Raises:
        ConfigError: there is no such method, or the store's board follows another protocol. DataError: no such data set.
    """
    store, generator = open_store(job.store), open_generator(job.generator)
    names = {method: method_config(method).name for method in job.methods}
    datasets = _datasets(job, store, generator)
    _agree(store, job.followed)
    check_identity(job, store, generator, datasets)
    _directions(job, store, pools)
    results: dict[str, Any] = {}
    not_run: dict[str, str] = {}
    for method, name in names.items():
        for dataset, reference in datasets.items():
            target = collection_name(dataset, name)
            inversion = {
                **job.model_dump(include={"store", "generator", "encoders", "needed"}),
                **{"dataset": reference, "method": method, "name": target},
            }
            try:
                inverted = run_invert(InvertJob.model_validate(inversion), pools)
                judged = _judge(job, store, generator, target, pools)
                results[target] = {
                    "inverted": inverted,
                    "judged": judged,
                    **_more(job, store, generator, target, pools),
                }
            except RunStopped:
                raise
            except GaninvError as error:  # of this method or this data set: the others continue, and the board says why
                not_run[target] = str(error)
        note_not_run(store, not_run)
    for dataset in datasets:
        if job.followed.references:
            results |= _references(job, store, generator, dataset, pools)
        if job.followed.halves and installed()[0] is not None:
            results |= _halves(job, store, generator, dataset, datasets[dataset], list(names.values()), pools)
    return {"url": f"{store.url}/{BOARD}", "boards": results, "not_run": not_run}


def _datasets(job: LeaderboardJob, store: Store, generator: Generator) -> dict[str, DatasetRef]:
    """All data sets by name, those that are made here too. What cannot be listed is refused before anything runs."""
    given: dict[str, DatasetRef] = {}
    for name, reference in job.datasets.items():
        checked_name("data set", name)
        at = small_faces(store) if reference.url == LOW_QUALITY else reference.url
        given[name] = reference.model_copy(update={"url": at, "limit": reference.limit or job.limit})
        given[name].open()
    if unknown := job.people.keys() - given.keys():
        raise ConfigError(
            f"--people names {', '.join(sorted(unknown))}, which is not one of the data sets: name it in --dataset"
        )
    own = _own_samples(store, generator, job.followed).model_copy(update={"limit": job.limit})
    return {SAMPLES: own, **given}


def small_faces(store: Store) -> str:
    """Where scikit-image's faces lie in the store, written if they do not yet."""
    folder = f"{BOARD}/{LOW_QUALITY.partition('://')[2]}"
    if not store.objects.names(folder):
        with TemporaryDirectory() as made:
            for path in sorted(demo_dataset(made).glob("small-face-*.png")):
                store.objects.put(f"{folder}/{path.name}", path.read_bytes())
    return store.objects.where(folder)


def check_identity(job: LeaderboardJob, store: Store, generator: Generator, datasets: Mapping[str, DatasetRef]) -> None:
    """Whether the judge of identity tells the people of a data set apart at the generator's size, once for each."""
    path = f"{BOARD}/identity.json"
    known: dict[str, Any] = json.loads(store.objects.read_if_there(path) or b"{}")
    faces, _, absent = installed()
    for name, pattern in job.people.items():
        if name in known or faces is None:
            if faces is None:
                _log.warning("identity is not checked on %s: %s", name, absent["identity and edits"])
            continue
        dataset = datasets[name].model_copy(update={"limit": None}).open()
        loaded = dataset.load(list(dataset.ids)[:NOTED], generator.resolution)
        found = [re.search(pattern, image_id) for image_id in loaded.ids]
        nobody = [image_id for image_id, match in zip(loaded.ids, found, strict=True) if match is None]
        if nobody:
            raise ConfigError(f"--people {name}={pattern!r} finds no person in the id {nobody[0]!r}")
        people = [match.group(1) if match.re.groups else match.group() for match in found if match is not None]
        verified = verify(faces.describe(faces.look(loaded.images)), people)
        numbers = {"auc": verified.auc, "same": len(verified.same), "different": len(verified.different)}
        known[name] = {"size": generator.resolution, "judge": str(faces.judges[1]), "text": str(verified), **numbers}
    store.objects.put(path, json.dumps(known, indent=1, sort_keys=True).encode())


def _agree(store: Store, protocol: LeaderboardProtocol) -> None:
    """A board has one protocol. A board to which the new protocol only adds numbers continues under it."""
    path, record = f"{BOARD}/protocol.json", protocol.model_dump_json(indent=1).encode()
    there = store.objects.read_if_there(path)
    if there is not None:
        was = validate(LeaderboardProtocol, json.loads(there), path)
        if was.judged_digest != protocol.judged_digest or was.model_copy(update={"name": protocol.name}) != protocol:
            raise ConfigError(
                f"the leaderboard of {store.url} follows protocol {was.name!r} with other settings than {protocol.name!r} has "
                "now: numbers of both cannot be in one table; begin in another store"
            )
    if there is None or json.loads(there) != json.loads(record):
        store.objects.put(path, record)


def _directions(job: LeaderboardJob, store: Store, pools: Pools) -> None:
    """The directions of the protocol, fitted here on samples of the generator where the store has them not."""
    protocol = job.followed
    failed = _fit(job, store, pools, BOARD, {edit.direction for edit in protocol.edits}, _BOUNDARY)
    if failed:
        raise ConfigError(
            f"the directions of the protocol could not be fitted ({failed}): give a labeller that has "
            f"{', '.join(sorted(edit.direction for edit in protocol.edits))} with --labeller, fit directions of these names "
            "into the store first, or leave edits out (--no-edits)"
        )
    if installed()[0] is not None:  # else nobody judges them
        failed = _fit(job, store, pools, "channels", {edit.direction for edit in protocol.channels}, _CHANNEL)
        if failed:
            _log.warning("edits by channels are left out if there is no channel: %s", failed)


_BOUNDARY = {"method": "interfacegan", "tails": 0.05}
_CHANNEL = {"method": "stylespace"}


def _fit(job: LeaderboardJob, store: Store, pools: Pools, name: str, asked: set[str], method: Mapping[str, Any]) -> str:
    """Fit those of ``asked`` that the store has not; why some could not be."""
    if asked <= {entry["name"] for entry in store.directions.list()}:
        return ""  # also where the protocol asks for none
    common = {"store": job.store, "labeller": job.labeller}
    sampled = {"name": BOARD, "count": job.followed.fitted_on, "generator": job.generator}
    run_sample(SampleJob.model_validate({**common, **sampled}), pools)
    prefix = CHANNEL if all(direction.startswith(CHANNEL) for direction in asked) else ""
    attributes = tuple(sorted(direction.removeprefix(prefix) for direction in asked))
    fitted = {"name": name, "samples": BOARD, "methods": (method,), "attributes": attributes, "prefix": prefix}
    run_fit(FitJob.model_validate({**common, **fitted}), pools)
    failed = store.collection("fits", name).errors()
    return "; ".join(f"{row['image_id']}: {row['message']}" for row in failed.to_pylist())


def _own_samples(store: Store, generator: Generator, protocol: LeaderboardProtocol) -> DatasetRef:
    """Samples of the generator as a data set: pictures of eight bits, as photographs are."""
    folder = f"{BOARD}/{SAMPLES}"
    names = [f"{number:04d}.png" for number in range(protocol.samples)]
    missing = sorted(set(names) - set(store.objects.names(folder)))
    if missing:
        z = sample_z(protocol.seed, range(protocol.samples), generator.z_dim)
        images = generator.render(Code(w=generator.map(z, truncation_psi=protocol.truncation_psi)))
        for name in missing:
            store.objects.put(f"{folder}/{name}", png_bytes(images[names.index(name)]))
    return DatasetRef(url=store.objects.where(folder))


def _judge(job: LeaderboardJob, store: Store, generator: Generator, name: str, pools: Pools) -> dict[str, Any]:
    jury = Jury(job.followed, minimised(generator))
    judges = {"judges": [str(judge) for judge in jury.judges], "absent": sorted(jury.absent)}
    config = {"protocol": job.followed.judged_digest, **judges}
    more = {"judges": judges["judges"], "absent": dict(jury.absent)}
    return _rows(job, store, generator, name, pools, JudgingWorker, config, more)


def _more(job: LeaderboardJob, store: Store, generator: Generator, name: str, pools: Pools) -> dict[str, Any]:
    """What was added to the rows of ``_judge`` since: each in a collection of its own, so that those rows stay as they are."""
    protocol, jury, out = job.followed, Jury(job.followed), dict[str, Any]()
    judges = {"judges": [str(judge) for judge in jury.judges if jury.faces is not None]}
    if protocol.edits and inverts_again(validate(MethodConfig, store.latents[name].plan().config["method"], name)):
        edits = {edit.direction: protocol.consistency for edit in protocol.edits}
        out["consistency"] = _rows(job, store, generator, name, pools, ConsistencyWorker, {"edits": edits}, {})
    if jury.faces is not None and channels_of(store, protocol):
        config = {"protocol": protocol.of_channels.judged_digest, **judges}
        out["channels"] = _rows(job, store, generator, name, pools, ChannelsWorker, config, judges)
    return out


def _references(job: LeaderboardJob, store: Store, generator: Generator, dataset: str, pools: Pools) -> dict[str, Any]:
    """Edits by references on the photos of a data set, once for all methods; why there are none is noted for the page."""
    protocol, path = job.followed, f"{BOARD}/{REFERENCES}.json"
    known: dict[str, str] = json.loads(store.objects.read_if_there(path) or b"{}")
    name, done = collection_name(dataset, protocol.reference), dict[str, Any]()
    try:
        if store.latents[name].manifest() is None:
            raise ConfigError(f"it edits the photos of {name}, which has not been run")
        editor = open_named(job, protocol.reference_editor, generator)
        jury = ReferenceJury()
        asked = [reference.model_dump() for reference in protocol.references]
        judges = {"judges": [str(judge) for judge in (*Jury(protocol).judges, jury.glasses.judge)]}
        config = {"references": asked, "editor": editor.fingerprint, **judges}
        done[f"references {dataset}"] = {
            "judged": _rows(job, store, generator, name, pools, ReferencesWorker, config, judges)
        }
    except RunStopped:
        raise
    except GaninvError as error:
        known[dataset] = str(error)
    else:
        known.pop(dataset, None)
    if known or store.objects.read_if_there(path) is not None:
        store.objects.put(path, json.dumps(known, indent=1, sort_keys=True).encode())
    return done


def _halves(
    job: LeaderboardJob,
    store: Store,
    generator: Generator,
    dataset: str,
    reference: DatasetRef,
    methods: Sequence[str],
    pools: Pools,
) -> dict[str, Any]:
    """Edits of the half of a data set that has least of an attribute: of all of its images, since distances of sets need many."""
    protocol, out = job.followed, dict[str, Any]()
    ids = reference.model_copy(update={"limit": None}).open().ids
    if len(ids) < protocol.halves_from:
        return out
    judges = {"judges": [str(judge) for judge in Jury(protocol).judges]}
    (edit,) = (edit for edit in protocol.edits if edit.direction == protocol.halves)
    spec = {"job": job, "dataset": dataset, "reference": reference}

    def run(name: str, config: dict[str, Any], ids: Sequence[str], worker: WorkerSpec) -> None:
        said = provenance(generator, protocol_name=protocol.name, **judges)
        plan = Plan.of("halves", {**config, **judges}, said, sorted(ids), AT_ONCE)
        target = collection_name(dataset, name)
        done = run_units(store.collection(HALVES, target), plan, worker, pools, f"halves {target}", grows=True)
        out[f"halves {target}"] = {"judged": done}

    run(PHOTOS, {"measure": edit.measure}, ids, WorkerSpec(PhotosWorker, spec))
    table = store.collection(HALVES, collection_name(dataset, PHOTOS)).read()
    below = table.filter(pa.array(lower_half(table["measure"].to_numpy())))["image_id"].to_pylist()
    for method in methods:
        latents = store.latents[collection_name(dataset, method)]
        if latents.manifest() is None:
            continue
        planned = validate(MethodConfig, latents.plan().config["method"], method)
        if not (inverts_again(planned) or method.startswith(CONTROL)):  # controls say what the distance is worth
            continue
        config = {
            "source_digest": latents.provenance()["config_digest"],
            "direction": edit.direction,
            "strengths": protocol.strengths,
        }
        run(method, config, below, WorkerSpec(HalvesWorker, {**spec, "method": method}))
    return out


def _rows(
    job: LeaderboardJob,
    store: Store,
    generator: Generator,
    name: str,
    pools: Pools,
    worker: type[RowsWorker],
    config: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Rows of a worker, one for each image of ``latents/<name>`` that went well. ``more``: for their provenance."""
    latents = store.latents[name]
    origin = latents.provenance()
    good = set(latents.read(columns=["image_id"])["image_id"].to_pylist())
    if not good:
        raise DataError(
            f"no image came through: {next(iter(latents.errors()['message'].to_pylist()), 'there is none')}"
        )
    planned = latents.plan()
    said = provenance(generator, method=origin.get("method"), protocol_name=job.followed.name, **more)
    plan = Plan.of(
        "leaderboard",
        {"source_digest": origin["config_digest"], **config},
        said,
        [i for i in planned.ids if i in good],
        max(len(unit.ids) for unit in planned.units),
    )
    collection, spec = store.collection(worker.kind, name), WorkerSpec(worker, {"job": job, "name": name})
    return run_units(collection, plan, spec, pools, f"{worker.kind} {name}", grows=True, made_of=[latents])


def note_not_run(store: Store, not_run: Mapping[str, str]) -> None:
    """What was asked for and not run, for the page; what was run later is taken out."""
    path = f"{BOARD}/not-run.json"
    there = store.objects.read_if_there(path) or b"{}"
    judged = set(store.list(JUDGED))
    merged = {name: why for name, why in {**json.loads(there), **not_run}.items() if name not in judged}
    if merged != json.loads(there):
        store.objects.put(path, json.dumps(merged, indent=1, sort_keys=True).encode())
