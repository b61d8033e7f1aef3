"""``refit``: fit directions again, for instance on a schedule; each new version records what it changed."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ganinv.config import StrictModel
from ganinv.store import Store, open_store
from tasks.engine import Pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.sample import SampleJob, run_sample


class RefitJob(StrictModel):
    """Fit ``fit`` again. Refit number n fills ``fits/<fit.name>-<n>``; an interrupted refit is continued.

    Args:
        sample: fresh samples for every refit, with the seed raised by n, in ``samples/<sample.name>-<n>``; None fits on
            ``fit.samples`` as they are. Where neither samples nor configuration changed, no version is written.
        measured: how many of the samples are edited and rendered to compare what the old and the new version do.
    """

    fit: FitJob
    sample: SampleJob | None = None
    measured: int = Field(32, ge=0)


def run_refit(job: RefitJob, pools: Pools) -> dict[str, Any]:
    """Sample, fit, compare. Returns the number of the refit and what changed, one row per direction."""
    store = open_store(job.fit.store)
    number = _number(store, job.fit.name)
    fit = job.fit.model_copy(update={"name": f"{job.fit.name}-{number:04d}", "compare": job.measured})
    if job.sample is not None:
        again = {"store": fit.store, "name": f"{job.sample.name}-{number:04d}", "seed": job.sample.seed + number}
        sample = job.sample.model_copy(update=again)
        run_sample(sample, pools)
        fit = fit.model_copy(update={"samples": sample.name})
    result = run_fit(fit, pools)
    earlier = {pair for name in _earlier(store, job.fit.name, number) for pair in _versions(store, name)}
    rows = []
    for name, version in _versions(store, fit.name):
        new = (name, version) not in earlier
        report = store.directions.get(name, version=version).report
        rows.append(
            {"direction": name, "version": version, "new": new, **summary(report.get("changes") if new else None)}
        )
    return {"refit": number, "samples": fit.samples, "failed": result["failed"], "directions": rows}


def summary(changes: dict[str, Any] | None) -> dict[str, Any]:
    """What changed, in few words: for tables."""
    if changes is None:
        return {}
    row: dict[str, Any] = {"previous": changes["previous"]}
    if "cosine" in changes:
        row["cosine"] = round(changes["cosine"], 4)
    for key in ("validation_accuracy", "stability"):
        if key in changes:
            row[key] = _pair(*changes[key])
    effects = changes.get("effects", {})
    if effects:
        row["effects"] = ", ".join(f"{name} {_pair(*pair)}" for name, pair in effects.items())
    return row | ({"not_compared": changes["not_compared"]} if "not_compared" in changes else {})


def _pair(before: float | None, after: float | None) -> str:
    return " -> ".join("-" if value is None else f"{value:.3f}" for value in (before, after))


def _number(store: Store, name: str) -> int:
    """The number of the refit that is unfinished, or the next one."""
    numbers = [number for number, _ in _refits(store, name)]
    if not numbers:
        return 1
    last = store.collection("fits", dict(_refits(store, name))[numbers[-1]])
    return numbers[-1] if last.manifest() is None else numbers[-1] + 1


def _refits(store: Store, name: str) -> list[tuple[int, str]]:
    """(number, name in the store) of every refit, by number."""
    found = [(n.removeprefix(f"{name}-"), n) for n in store.list("fits") if n.startswith(f"{name}-")]
    return sorted((int(number), n) for number, n in found if number.isdecimal())


def _earlier(store: Store, name: str, number: int) -> list[str]:
    """The fits before this refit, the first one included."""
    before = [n for k, n in _refits(store, name) if k < number]
    return [n for n in (name, *before) if n in store.list("fits")]


def _versions(store: Store, fit: str) -> list[tuple[str, int]]:
    table = store.collection("fits", fit).read(columns=["image_id", "version"])
    return list(zip(table["image_id"].to_pylist(), table["version"].to_pylist(), strict=True))
