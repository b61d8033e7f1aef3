"""``InvertJob``: what is to be inverted and how, as the step and its workers read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ganinv.generators.files import EMBEDDED
from ganinv.records import RecordConfig
from ganinv.stages.method import method_config
from tasks.codes import CodesJob
from tasks.jobs.dataset import DatasetRef


class InvertJob(CodesJob):
    """Invert ``dataset`` with ``method`` into ``latents/<name>`` (the method's name by default).

    Args:
        encoders: locations of inverters, by the name that the method uses; by default they are looked up in the store, then among
            those that ship. This includes the inverters of the codes in ``start``.
        needed: networks that these inverters depend on and their files do not contain, by role (``w_encoder``).
        overrides: values to replace in the method's YAML, as in ``load_method``.
        record: how precisely the codes are stored.
        start: a collection of latents of the same images that the first stage begins from (``start: code``).
        measure: render each result and compare it with its image. For encoders, this is most of the work. Without it, ``mse`` and
            ``distance`` are null; ``ganinv evaluate`` can still measure them later.
        changed: what to do with an image whose content has changed since its row was made: ``compute`` the row again, or make it
            an ``error`` row.
        class_column: for a conditional generator, the column of a Parquet data set with each image's class (a number, or
            one-hot). Stages that start from the mean of W then start from the mean of the class.
    """

    store: str
    dataset: DatasetRef
    name: str | None = None
    method: str = "pti"
    generator: str = EMBEDDED
    seed: int = 0
    unit_size: int | None = Field(None, ge=1)
    overrides: Mapping[str, Any] = Field(default_factory=dict)
    record: RecordConfig = RecordConfig()
    start: str | None = None
    measure: bool = True
    changed: Literal["compute", "error"] = "compute"
    class_column: str | None = None

    @property
    def collection_name(self) -> str:
        return self.name or method_config(self.method).name

    def beside(self) -> dict[str, Any]:
        """What a step that does more has in its plan besides."""
        return {}
