"""``paste``: edited faces back in their photos, every edit of a collection; the rest of a photo stays to the bit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from ganinv.codes.code import Code
from ganinv.config import reread
from ganinv.data.dataset import Photo
from ganinv.data.index import SourceIndex
from ganinv.data.png import png_of
from ganinv.data.source import Place
from ganinv.errors import ConfigError, DataError
from ganinv.faces import paste
from ganinv.faces.pasting import FEATHER, seam
from ganinv.faces.rows import quad_of
from ganinv.generators.channels import as_rgb
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.store import Collection, Plan, RowError, Store, Unit, open_store
from ganinv.store.local import replace_file
from ganinv.store.names import quoted_id
from tasks.codes import PLACES, CodesJob
from tasks.engine import Pools, default_device, provenance, run_units
from tasks.generator_check import check_generator
from tasks.pool import WorkerSpec
from tasks.steps.align import KIND, aligned

_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),  # of the photo
        ("edit", pa.string()),
        ("strength", pa.float32()),
        ("faces", pa.int32()),  # that were pasted
        ("seam", pa.float32()),
        ("seam_photo", pa.float32()),
        ("uri", pa.string()),
    ]
)


class PasteJob(CodesJob):
    """Paste the faces of ``edits/<edits>`` into the photos that they were aligned from: into ``pasted/<name>``, by default of the
    edits' name, a PNG for each photo, edit and strength, with all faces of the photo that have it.

    Args:
        aligned: the collection of aligned faces; by default the one that was inverted.
        mode: ``change`` adds what the edit changed in the rendering to the photo, which keeps its own detail; ``crop``
            replaces the face by the rendering.
        feather: share of the crop's side over which the mask rises from 0 to 1.
    """

    store: str
    edits: str = "edits"
    name: str | None = None
    generator: str = EMBEDDED
    aligned: str | None = None
    mode: Literal["change", "crop"] = "change"
    feather: float = Field(FEATHER, ge=0, le=0.5)
    unit_size: int = Field(4, ge=1)

    @property
    def collection_name(self) -> str:
        return self.name or self.edits


def run_paste(job: PasteJob, pools: Pools) -> dict[str, Any]:
    """Fill ``pasted/<name>``. Returns counts and the collection's URL.

    Raises:
        ConfigError: the edits are not of aligned photos. StoreError: a collection that is not there.
    """
    store, generator = open_store(job.store), open_generator(job.generator)
    edits = store.edits[job.edits]
    origin = edits.provenance()
    check_generator(origin, generator, f"edits {job.edits!r}")
    job.reader(store, edits, generator).check()
    latents = store.latents[str(origin["latents"])]
    crops = aligned(store, job.aligned or aligned_name(latents))
    config = job.model_dump(mode="json", exclude=PLACES | {"store", "name", "unit_size", "aligned"})
    config |= {"edits_digest": origin["config_digest"], "aligned": crops.name, "latents": latents.name}
    config |= {"aligned_digest": crops.plan().config_digest}
    photo_of = photos_of(crops)
    edited = edits.read(["image_id"])["image_id"].to_pylist()
    # An edit whose crop no longer exists represents its photo, and becomes an error row.
    ids = sorted({photo_of.get(face, face) for face in edited})
    plan = Plan.of("paste", config, provenance(generator, edits=job.edits, aligned=crops.name), ids, job.unit_size)
    spec, same = WorkerSpec(PasteWorker, {"job": job}), partial(reread, PasteJob)
    collection = store.collection("pasted", job.collection_name)
    return run_units(collection, plan, spec, pools, "paste", grows=True, reread=same, made_of=[edits, crops])


def aligned_name(latents: Collection) -> str:
    """The collection of aligned faces that inversions are of.

    Raises:
        ConfigError: they are of something else.
    """
    url = str(latents.plan().config.get("dataset", {}).get("url", ""))
    found = re.search(rf"(?:^|/){KIND}/([^/]+)/?$", url)
    if found is None:
        raise ConfigError(
            f"latents {latents.name!r} are of {url or 'images that nobody named'}, not of aligned faces, so where in "
            "a photo they belong is not known: ganinv align PHOTOS, then ganinv invert --dataset STORE/aligned/faces"
        )
    return found[1]


def photos_of(crops: Collection) -> dict[str, str]:
    """Face -> its photo."""
    table = crops.read(["image_id", "face_id"])
    return dict(zip(table["face_id"].to_pylist(), table["image_id"].to_pylist(), strict=True))


@dataclass(frozen=True)
class _Pasted:
    image_id: str
    edit: str
    strength: float
    faces: int
    seam: float
    seam_photo: float
    png: bytes


class PasteWorker:
    """Renders edited faces and puts them where they were."""

    def __init__(self, job: PasteJob) -> None:
        self.job, store = job, open_store(job.store)
        self.collection = store.collection("pasted", job.collection_name)
        config = self.collection.plan().config
        self.edits, self.latents = store.edits[job.edits], store.latents[config["latents"]]
        self.crops = aligned(store, config["aligned"])
        self.generator = open_generator(job.generator, default_device())
        self.edited = job.reader(store, self.edits, self.generator)
        self.unedited = job.reader(store, self.latents, self.generator)
        place = Place(self.crops.plan().config["dataset"]["url"])
        self.photos = SourceIndex(place, self.crops.objects, self.crops.path)
        self._planned = set(self.crops.plan().ids)
        self._faces = set(self.edits.plan().ids)

    def process(self, ids: Sequence[str]) -> list[Any]:
        known = [i for i in ids if i in self._planned]
        rows: list[Any] = [_no_crop(i, self.crops) for i in ids if i not in self._planned]
        faces: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        if known:
            for row in self.crops.read(_CROP, known).to_pylist():
                faces[row["image_id"]].append(row)
        rows += [_no_crop(i, self.crops) for i in known if i not in faces]
        for photo in self.photos.photos([i for i in known if i in faces]):
            if isinstance(photo, RowError):
                rows.append(photo)
            elif faces[photo.image_id][0]["source_sha256"] != photo.sha256:
                advice = "the photo is not the one that was aligned: run ganinv align and the steps after it again"
                uri = faces[photo.image_id][0]["source_uri"]
                rows.append(RowError(photo.image_id, "source_changed", f"{uri}: {advice}"))
            else:
                rows += self._pasted(photo, faces[photo.image_id])
        return rows

    def _pasted(self, photo: Photo, faces: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The photo once for each edit and strength of its faces."""
        quads = {row["face_id"]: quad_of(row) for row in faces}
        edits: dict[tuple[str, float], dict[str, Image.Image]] = defaultdict(dict)
        before: dict[str, Image.Image] = {}
        for face in sorted(self._faces.intersection(quads)):
            table = self.edits.read(ids=[face])
            for row, (edit, strength) in enumerate(
                zip(table["edit"].to_pylist(), table["strength"].to_pylist(), strict=True)
            ):
                edits[edit, strength][face] = self._render(self.edited.codes(table, [row]))
            if self.job.mode == "change" and table.num_rows:
                before[face] = self._render(self.unedited.codes(self.latents.read(ids=[face])))
        found = list[Any]()
        for (edit, strength), crops in edits.items():
            whole = photo.image
            try:
                for face, crop in crops.items():
                    whole = paste(whole, crop, quads[face], before=before.get(face), feather=self.job.feather)
            except DataError as error:
                return [RowError(photo.image_id, "bad_crop", str(error))]
            before_it, after_it = np.mean([seam(photo.image, whole, quads[face]) for face in crops], axis=0)
            seams = {"seam_photo": float(before_it), "seam": float(after_it)}
            file = png_of(whole, compress_level=1)
            found.append(_Pasted(photo.image_id, edit, strength, faces=len(crops), png=file, **seams))
        return found

    def _render(self, code: Code) -> Image.Image:
        image = as_rgb(self.generator.render(code.to(self.generator.device)))[0].float().clamp(-1, 1)
        return Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row.image_id)
        columns = [{**vars(row), "uri": self._put(row)} for row in rows]
        self.collection.write_part(unit.index, pa.Table.from_pylist(columns, _SCHEMA), failures, {})
        return {}

    def _put(self, row: _Pasted) -> str:
        path = f"{self.collection.path}/images/{quoted_id(row.edit)}/{row.strength:+g}/{quoted_id(row.image_id)}.png"
        self.collection.objects.put(path, row.png)
        return path


_CROP = ["image_id", "face_id", "quad", "source_uri", "source_sha256"]


def _no_crop(image_id: str, crops: Collection) -> RowError:
    return RowError(
        image_id,
        "no_crop",
        f"{image_id}: {crops.url} has no crop of it: align its photo again, then invert and edit it",
    )


def write_pasted(store: Store, name: str, folder: Path) -> int:
    """Everything pasted as ``<photo>@<edit>.png`` below a folder, with the strength behind it where that is not 1. Returns how
    many.

    Raises:
        ConfigError: the folder cannot be written.
    """
    collection, count = store.collection("pasted", name), 0
    for batch in collection.scan(["image_id", "edit", "strength", "uri"]):
        for row in batch.to_pylist():
            strength = "" if row["strength"] == 1 else f"@{row['strength']:+g}"
            where = folder / f"{quoted_id(row['image_id'])}@{quote(row['edit'], safe='=,+() ')}{strength}.png"
            try:
                replace_file(str(where), collection.objects.read(row["uri"]), sync=False)
            except OSError as error:
                raise ConfigError(f"cannot write {where}: {error}. Choose another folder with --out") from error
            count += 1
    return count
