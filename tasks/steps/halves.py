"""Workers of the distance of edited halves: features of photos, and of edits of one half of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.generators.channels import as_channels
from ganinv.generators.files import open_generator
from ganinv.judges import measure_faces, squeezenet_features
from ganinv.leaderboard.board import HALVES, collection_name
from ganinv.leaderboard.editing import Editor, directions_of
from ganinv.leaderboard.halves import PHOTOS
from ganinv.leaderboard.jury import installed
from ganinv.store import RowError, Unit, open_store
from ganinv.target import Target
from tasks.engine import default_device
from tasks.inverters import method_of
from tasks.jobs.dataset import DatasetRef
from tasks.steps.leaderboard_job import LeaderboardJob


class PhotosWorker:
    """Reads all images of a data set, and writes the judge's features of each, and the measure that the halves differ in."""

    def __init__(self, job: LeaderboardJob, dataset: str, reference: DatasetRef) -> None:
        self.protocol, self.store = job.followed, open_store(job.store)
        self.generator = open_generator(job.generator, default_device())
        self.collection = self.store.collection(HALVES, collection_name(dataset, self.method_name))
        self.images = reference.model_copy(update={"limit": None}).open()
        self.faces, self.net, absent = installed()
        if self.faces is None or self.net is None:
            raise ConfigError(next(iter(absent.values())))

    @property
    def method_name(self) -> str:
        return PHOTOS

    def process(self, ids: Sequence[str]) -> list[Any]:
        loaded = self.images.load(list(ids), self.generator.resolution)
        images = as_channels(loaded.images, self.generator.img_channels)
        rows = zip(loaded.ids, self.features(images), self.measured(images), strict=True)
        return [*loaded.errors, *rows]

    def features(self, images: Tensor) -> np.ndarray:
        """[B, 1, D]."""
        assert self.net is not None
        return squeezenet_features(self.net, images)[:, None]

    def measured(self, images: Tensor) -> np.ndarray:
        """[B]."""
        assert self.faces is not None
        (edit,) = (edit for edit in self.protocol.edits if edit.direction == self.protocol.halves)
        return measure_faces(self.faces.look(images))[edit.measure]

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        columns = {"image_id": pa.array([row[0] for row in rows], pa.string())}
        if rows:
            features = np.ascontiguousarray(np.stack([row[1] for row in rows]).astype(np.float32))
            columns["features"] = pa.FixedShapeTensorArray.from_numpy_ndarray(features)
            columns["measure"] = pa.array([float(row[2]) for row in rows], pa.float32())
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}


class HalvesWorker(PhotosWorker):
    """Inverts images by a method, edits them by each strength, and writes the judge's features: unedited first."""

    def __init__(self, job: LeaderboardJob, dataset: str, reference: DatasetRef, method: str) -> None:
        self._method_name = method
        super().__init__(job, dataset, reference)
        latents = self.store.latents[collection_name(dataset, method)]
        reader = job.reader(self.store, latents, self.generator)
        self.editor = Editor(reader, self.generator, directions_of(self.store, self.protocol, self.generator))
        self.method = method_of(latents, job, self.generator)

    @property
    def method_name(self) -> str:
        return self._method_name

    @torch.no_grad()
    def features(self, images: Tensor) -> np.ndarray:
        """[B, 1 + strengths, D]."""
        assert self.net is not None
        images = images.to(self.generator.device)
        code = self.method.invert(Target(images), measure=False).code
        shown = [self.generator.render(code)]
        shown += [self.editor(code, images, self.protocol.halves, s) for s in self.protocol.strengths]
        return np.stack([squeezenet_features(self.net, each.cpu()) for each in shown], axis=1)

    def measured(self, images: Tensor) -> np.ndarray:
        """Known of the photos."""
        return np.full(len(images), np.nan)
