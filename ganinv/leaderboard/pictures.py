"""Photos, what each method makes of them, and edits of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.directions.direction import Direction
from ganinv.errors import GaninvError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.leaderboard.board import Board, collection_name
from ganinv.leaderboard.editing import Editor, channels_of, directions_of
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.records import CodeReader
from ganinv.report.images import pixels
from ganinv.store import Collection

SHOWN, EDITED, STRENGTH = 6, 3, 2.0
"""Number of images that are shown, how many of them are edited too, and how strongly."""
MARGIN = 150
"""Width in pixels for the names of methods."""


def strips(board: Board, dataset: str, generator: str | None = None) -> dict[str, np.ndarray]:
    """Method -> its renderings of the photos, and of edits of the first ones; the photos themselves under "": uint8 [R, W, 3]
    each."""
    methods = board.rows[dataset]
    first = board.store.latents[collection_name(dataset, next(iter(methods)))]
    g = open_generator(generator or str(first.provenance()["generator_name"]))
    ids = sorted(set.intersection(*(set(row.ids) for row in methods.values())))[:SHOWN]
    if not ids:  # no image that all methods have
        return {}
    photos = _photos(first, ids, g)
    empty = torch.ones(len(ids[:EDITED]) * len(_shown(board)), *photos.shape[1:])
    out = {"": _side_by_side(torch.cat([photos, empty]))}
    for method in methods:
        latents = board.store.latents[collection_name(dataset, method)]
        try:
            shown = _rendered(board, latents, ids, photos, g)
        except GaninvError:  # of an inverter that is gone, or was trained again since: the row stays white
            shown = torch.cat([torch.ones_like(photos), empty])
        out[method] = _side_by_side(shown)
    return out


def legend(board: Board) -> str:
    """What the columns of the pictures show."""
    edits = ", ".join(edit.direction for edit in board.protocol.edits)
    if not edits:
        return f"{SHOWN} photos and their renderings"
    more = [edit.direction for edit in board.protocol.channels if edit.direction in _shown(board)]
    channels = f", then by {board.protocol.channel_strengths[-1]:g}: {', '.join(more)}" if more else ""
    return f"{SHOWN} photos and their renderings, then the first {EDITED} edited by {STRENGTH:g}: {edits}{channels}"


def sheet(found: dict[str, np.ndarray]) -> Image.Image:
    """All strips, one below the other, each with its name."""
    rows = []
    for name, strip in found.items():
        label = Image.new("RGB", (MARGIN, strip.shape[0]), "white")
        ImageDraw.Draw(label).text((4, strip.shape[0] // 2 - 6), name or "photo", fill="black")
        rows.append(np.concatenate([np.asarray(label), strip], axis=1))
    return Image.fromarray(np.concatenate(rows))


def _rendered(board: Board, latents: Collection, ids: Sequence[str], photos: Tensor, g: Generator) -> Tensor:
    reader = CodeReader(board.store, latents, g)
    table = latents.read(ids=ids)
    order = [table["image_id"].to_pylist().index(i) for i in ids]
    code = reader.codes(table, order).to(g.device)
    rows = [g.render(code)]
    editor, some = (
        Editor(reader, g, _directions(board, g)),
        code[list(range(len(ids)))[:EDITED]],
    )
    seen = _photos(latents, ids[:EDITED], g, reader.photo_side) if reader.edits_need_images else photos[:EDITED]
    for direction, strength in _shown(board).items():
        try:
            rows.append(editor(some, seen.to(g.device), direction, strength))
        except GaninvError:  # of an inverter that is gone: its place stays white
            rows.append(torch.ones_like(rows[0][:EDITED]))
    return torch.cat([row.float().clamp(-1, 1).cpu() for row in rows])


def _asked(board: Board) -> list[tuple[LeaderboardProtocol, float]]:
    """Edits in W, then those by channels, with the strength at which they are shown; channels at the strength at which they are
    judged."""
    channels = channels_of(board.store, board.protocol)
    return [(board.protocol, STRENGTH), *([(channels, channels.strengths[-1])] if channels is not None else [])]


def _shown(board: Board) -> dict[str, float]:
    """Direction -> strength."""
    return {edit.direction: strength for asked, strength in _asked(board) for edit in asked.edits}


def _directions(board: Board, g: Generator) -> dict[str, Direction]:
    return {name: found for asked, _ in _asked(board) for name, found in directions_of(board.store, asked, g).items()}


def _photos(latents: Collection, ids: Sequence[str], g: Generator, side: int | None = None) -> Tensor:
    """The photos of some images [N, 3, R, R], as the inversion read them; white if a photo is gone."""
    size = side or g.resolution
    loaded = SourceIndex(Place(latents.plan().config["dataset"]["url"]), latents.objects, latents.path).load(ids, size)
    found = dict(zip(loaded.ids, loaded.images, strict=True))
    return torch.stack([found.get(i, torch.ones(3, size, size)) for i in ids])


def _side_by_side(images: Tensor) -> np.ndarray:
    return np.concatenate(list(pixels(images)), axis=1)
