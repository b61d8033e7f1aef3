"""``report``: one self-contained HTML of a store's collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.report import ReportRequest, write_report
from ganinv.store import Store, open_store
from ganinv.store.names import checked_name
from tasks.codes import CodesJob
from tasks.engine import Pools, default_device
from tasks.sources import sources_of


class ReportJob(CodesJob):
    """What to show. Empty parts are left out of the report.

    Args:
        latents: inverted collections of one data set, one per method.
    """

    store: str
    name: str = "report"
    generator: str = EMBEDDED
    title: str = "GAN inversion"
    samples: str | None = None
    training: str | None = None
    latents: tuple[str, ...] = ()
    edits: str | None = None
    max_strips: int = 12


def run_report(job: ReportJob, pools: Pools | None = None) -> dict[str, Any]:
    """Write ``reports/<name>.html`` into the store. Returns its URL.

    Raises:
        StoreError: a collection that is named and not there.
    """
    path = f"reports/{checked_name('report', job.name)}.html"
    store = open_store(job.store)
    named = {"samples": job.samples, "training": job.training, "edits": job.edits}
    for kind, name in [*(("latents", each) for each in job.latents), *named.items()]:
        if name is not None:
            store.collection(kind, name).plan()  # what is named and not there is told, not left out
    generator = open_generator(job.generator, default_device())
    request = ReportRequest(
        title=job.title,
        samples=job.samples,
        training=job.training,
        latents=job.latents,
        edits=job.edits,
        max_strips=job.max_strips,
        encoders=job.encoders,
        needed=job.needed,
    )
    sources = Sources(store, job.latents[0] if job.latents else None, generator.resolution)
    html = write_report(store, generator, request, sources)
    store.objects.put(path, html)
    return {"report": store.objects.where(path), "bytes": len(html)}


class Sources:
    """The source images of an inverted collection, read again: id -> uint8 [R, R, 3]."""

    def __init__(self, store: Store, latents: str | None, resolution: int) -> None:
        self._store, self._latents, self._resolution = store, latents, resolution

    def __call__(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        if self._latents is None or not ids or "dataset" not in self._store.latents[self._latents].plan().config:
            return {}  # imported latents do not say which images they are of
        loaded = sources_of(self._store.latents[self._latents], self._store).load(list(ids), self._resolution)
        pixels = ((loaded.images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        return dict(zip(loaded.ids, pixels, strict=True))
