"""Workers that put stored inversions, edits of them, and what becomes of these, before judges: a row of numbers for an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.moves import moved
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.leaderboard.board import CHANNELS, CONSISTENCY, JUDGED, REFERENCES
from ganinv.leaderboard.consistency import consistency
from ganinv.leaderboard.editing import Editor, channels_of, directions_of
from ganinv.leaderboard.jury import Jury, Numbers
from ganinv.leaderboard.references import EDITOR, KEEP, SWAP, ReferenceJury, partners, taken_over
from ganinv.losses.distance import Distance, open_distance
from ganinv.store import RowError, Unit, open_store
from ganinv.target import Target
from tasks.engine import default_device
from tasks.inverters import method_of, open_named
from tasks.records import load_sources
from tasks.sources import sources_of
from tasks.steps.leaderboard_job import LeaderboardJob

AT_ONCE = 16
"""Images that are judged at once: the jury's nets hold all of their activations."""


class RowsWorker:
    """Reads the inversions of a collection of latents with their photos, and writes what :meth:`values` says of each.

    Attributes:
        kind: of the collection that is written. at_once: images whose values are computed together.
    """

    kind: ClassVar[str]
    at_once: ClassVar[int] = AT_ONCE

    def __init__(self, job: LeaderboardJob, name: str) -> None:
        self.store, self.protocol = open_store(job.store), job.followed
        self.latents, self.collection = self.store.latents[name], self.store.collection(self.kind, name)
        self.generator = open_generator(job.generator, default_device())
        self.reader = job.reader(self.store, self.latents, self.generator)
        self.sources = sources_of(self.latents, self.store)

    @abstractmethod
    def values(self, source: Tensor, photos: Tensor, code: Code) -> Numbers:
        """What is said of B images: name -> [B].

        Args:
            source: [B, C, R, R]. photos: the same with as many pixels as the method's edits look at. code: of their inversions.
        """

    def process(self, ids: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for first in range(0, len(ids), self.at_once):
            rows += self._some(ids[first : first + self.at_once])
        return rows

    def _some(self, ids: Sequence[str]) -> list[Any]:
        images, table, errors = load_sources(self.sources, self.latents, ids, self.generator)
        if not table.num_rows:
            return list(errors)
        ids, device = table["image_id"].to_pylist(), self.generator.device
        source = photos = images.to(device)
        if self.reader.edits_need_images and self.reader.photo_side is not None:
            side = self.reader.photo_side
            photos = load_sources(self.sources, self.latents, ids, self.generator, side)[0].to(device)
        values = self.values(source, photos, self.reader.codes(table).to(device))
        return [*errors, *((i, {name: float(v[n]) for name, v in values.items()}) for n, i in enumerate(ids))]

    def commit(self, unit: Unit, rows: list[Any], failures: Sequence[RowError]) -> Mapping[str, Any]:
        rows.sort(key=lambda row: row[0])
        columns: dict[str, Any] = {"image_id": pa.array([row[0] for row in rows], pa.string())}
        for name in rows[0][1] if rows else ():
            columns[name] = pa.array(np.array([row[1][name] for row in rows], np.float32))
        self.collection.write_part(unit.index, pa.table(columns), failures, {})
        return {}


class JudgingWorker(RowsWorker):
    """Renders inversions and edits of them, and puts both before the jury."""

    kind = JUDGED

    def __init__(self, job: LeaderboardJob, name: str) -> None:
        super().__init__(job, name)
        self.jury = Jury(self.protocol, minimised(self.generator))
        self.editor = Editor(self.reader, self.generator, directions_of(self.store, self.protocol, self.generator))

    def values(self, source: Tensor, photos: Tensor, code: Code) -> Numbers:
        rendered = self.generator.render(code)
        return self.jury.fidelity(source, rendered) | self._edited(source, photos, code, rendered)

    def _edited(self, source: Tensor, photos: Tensor, code: Code, rendered: Tensor) -> Numbers:
        def edit(direction: str, strength: float, rows: Sequence[int]) -> Tensor:
            return self.editor(code[rows], photos[list(rows)], direction, strength)

        return self.jury.edits(source, rendered, edit, self.editor.of_mean)


class ChannelsWorker(JudgingWorker):
    """Edits by one channel of S each, before the same jury."""

    kind = CHANNELS

    def __init__(self, job: LeaderboardJob, name: str) -> None:
        channels = channels_of(open_store(job.store), job.followed)
        if channels is None:
            raise ConfigError(f"{job.store} has none of the protocol's channels: fit them first (run_leaderboard does)")
        super().__init__(job.model_copy(update={"protocol": channels}), name)

    def values(self, source: Tensor, photos: Tensor, code: Code) -> Numbers:
        return self._edited(source, photos, code, self.generator.render(code))


class ConsistencyWorker(RowsWorker):
    """Edits an inversion, renders it, and inverts the rendering by the same method."""

    kind = CONSISTENCY

    def __init__(self, job: LeaderboardJob, name: str) -> None:
        super().__init__(job, name)
        self.directions = directions_of(self.store, self.protocol, self.generator)
        self.editor = Editor(self.reader, self.generator, self.directions)
        self.method = method_of(self.latents, job, self.generator)

    def values(self, source: Tensor, photos: Tensor, code: Code) -> Numbers:
        out: Numbers = {}
        unedited = self._inverted(self.generator.render(code)).to(code.w)
        for name, direction in self.directions.items():
            strength = self.protocol.consistency
            step = moved(code, [(direction, torch.tensor(strength))], self.generator).w - code.w
            again = self._inverted(self.editor(code, photos, name, strength)).to(code.w)
            out |= {f"{name}_{key}": v for key, v in consistency(code.w, again, unedited, step).items()}
        return out

    def _inverted(self, images: Tensor) -> Tensor:
        return self.method.invert(Target(images.float().clamp(-1, 1)), measure=False).code.w


class ReferencesWorker(RowsWorker):
    """Edits by references, of the codes that the editor's own encoder makes."""

    kind, at_once = REFERENCES, 64  # each photo's reference is another of these

    def __init__(self, job: LeaderboardJob, name: str) -> None:
        super().__init__(job, name)
        self.editor = open_named(job, self.protocol.reference_editor, self.generator)
        self.jury = ReferenceJury()

    @torch.no_grad()
    def values(self, source: Tensor, photos: Tensor, code: Code) -> Numbers:
        jury, g, out = self.jury, self.generator, dict[str, np.ndarray]()
        own = self.editor.reference_code(source)
        seen, rendered = jury.see(source), jury.see(g.render(own))
        for asked in self.protocol.references:
            which = partners(seen[0][asked.measure])
            reference = own[which.tolist()]
            after = self.editor.edit_by_reference(own, reference, (asked.attribute,))
            rows = {EDITOR: jury.see(g.render(after)), KEEP: rendered, SWAP: jury.see(g.render(reference))}
            for row, edited in rows.items():
                found = taken_over(self.protocol.spreads, asked, which, seen, rendered[0], edited)
                out |= {f"{row}:{asked.attribute}_{name}": value for name, value in found.items()}
        return out


def minimised(generator: Generator) -> Distance | None:
    """The distance that methods minimise here, where the generator has the critic whose features it is of."""
    return None if generator.discriminator is None else open_distance("embedded", generator)
