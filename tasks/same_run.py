"""Whether two plans of an inversion belong to the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganinv.config import StrictModel, reread
from ganinv.records import RecordConfig
from ganinv.stages.method import MethodConfig
from tasks.sources import DatasetRef


class _Planned(StrictModel):
    """What the configuration of a plan holds of today's models."""

    dataset: DatasetRef
    method: MethodConfig
    record: RecordConfig = RecordConfig()
    measure: bool = True


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a plan, as it is compared: as today's models read it, without what only chooses images, or what
    is measured of a result."""
    now = reread(_Planned, config)
    now.pop("measure", None)
    if "method" in now:  # what is said of a method may be said better; steps stay as they were when the run began
        now["method"] = {key: value for key, value in now["method"].items() if key not in ("summary", "compiled")}
    if "dataset" in now:
        now["dataset"] = chosen_alike(now["dataset"])
    return now


def chosen_alike(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A :class:`DatasetRef` of a plan without what only chooses images: a larger ``limit`` is more of the same run."""
    return {key: value for key, value in dataset.items() if key not in ("where", "limit")}
