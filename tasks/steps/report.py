"""``report``: one self-contained HTML of a store's collections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.errors import ConfigError, StoreError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.report import ReportRequest, write_report
from ganinv.store import RowError, Store, open_store
from ganinv.store.local import replace_file
from ganinv.store.names import checked_name
from tasks.codes import CodesJob
from tasks.engine import Pools, default_device
from tasks.sources import sources_of
from tasks.steps.align import aligned


class ReportJob(CodesJob):
    """What to show. Empty parts are left out of the report.

    Args:
        latents: inverted collections of one data set, one per method.
        pasted: photos with edited faces, which the report opens with.
        others: inverted collections of another data set, shown below under ``others_title``.
        out: file to write instead of ``reports/<name>.html`` in the store, which may then be one that is only read.
    """

    store: str
    name: str = "report"
    generator: str = EMBEDDED
    title: str = "GAN inversion"
    samples: str | None = None
    training: str | None = None
    latents: tuple[str, ...] = ()
    edits: str | None = None
    pasted: str | None = None
    others: tuple[str, ...] = ()
    others_title: str = "Other images"
    max_strips: int = 12
    out: str | None = None


def run_report(job: ReportJob, pools: Pools | None = None) -> dict[str, Any]:
    """Write ``reports/<name>.html`` into the store, or the file ``out``. Returns its URL.

    Raises:
        StoreError: a collection that is named and not there, or a store that cannot be written. ConfigError: the same of ``out``.
    """
    path = f"reports/{checked_name('report', job.name)}.html"
    store = open_store(job.store)
    named = {"samples": job.samples, "training": job.training, "edits": job.edits, "pasted": job.pasted}
    for kind, name in [*(("latents", each) for each in (*job.latents, *job.others)), *named.items()]:
        if name is not None:
            store.collection(kind, name).plan()  # what is named and not there is told, not left out
    if not job.latents and not any(named.values()):
        raise ConfigError(
            f"there is nothing to report on in {store.url}: no inversions (ganinv invert makes some), and no samples or "
            "edits are named. Check the URL of the store"
        )
    generator = open_generator(job.generator, default_device())
    request = ReportRequest.model_validate(job.model_dump(include=set(ReportRequest.model_fields)))
    sources = Sources(store, job.latents[0] if job.latents else None, generator.resolution)
    others = Sources(store, job.others[0] if job.others else None, generator.resolution)
    html = write_report(store, generator, request, sources, partial(_photos, store, job.pasted), others)
    _write(html, store, path, job.out)
    return {"report": job.out or store.objects.where(path), "bytes": len(html)}


def _write(html: bytes, store: Store, path: str, out: str | None) -> None:
    try:
        if out is None:
            store.objects.put(path, html)
        else:
            replace_file(out, html)
    except StoreError as error:
        raise StoreError(f"{error}, or write the report to a file with --out") from error
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error}. Choose another file with --out") from error


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


def _photos(store: Store, pasted: str | None, ids: Sequence[str]) -> dict[str, Image.Image]:
    """The photos that faces were pasted into, read again: id -> upright RGB."""
    if pasted is None or not ids:
        return {}
    crops = aligned(store, str(store.collection("pasted", pasted).plan().config["aligned"]))
    place = Place(str(crops.plan().config["dataset"]["url"]))
    found = SourceIndex(place, crops.objects, crops.path).photos(ids)
    return {photo.image_id: photo.image for photo in found if not isinstance(photo, RowError)}
