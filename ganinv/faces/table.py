"""Landmarks that somebody else found, from a table."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image

from ganinv.data.align import face_quad, landmarks68_to_points
from ganinv.data.source import Place, SourceRef
from ganinv.errors import DataError, printable
from ganinv.faces.base import Detector, DetectorConfig, Face, FaceRefused
from ganinv.store.tensors import arrow_file, parquet_table

POINTS = ("left_eye", "right_eye", "mouth_left", "mouth_right")
FOUR = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
_FORMS = f"{', '.join(FOUR)}, or landmarks with 4, 5 or 68 points (x, y)"


class LandmarkTableConfig(DetectorConfig):
    """Points from a CSV or Parquet file, a row for each face.

    Its columns are ``image_id`` (of the photo in its data set), and either ``left_eye_x``, ``left_eye_y``, ``right_eye_x``, ...,
    ``mouth_right_y``, or (Parquet) ``landmarks``, a list of 68 points (x, y) as iBUG has them, of 5 (eyes, nose, corners of the
    mouth) or of 4 (without the nose). Pixels of the upright photo; left is the viewer's. ``score`` is taken over.

    Args:
        table: its path or URL.
    """

    kind: Literal["landmarks"] = "landmarks"
    table: str

    def open(self) -> Detector:
        return LandmarkTable(read_landmarks(self._bytes, self.table), self.digest())

    def digest(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    @cached_property
    def _bytes(self) -> bytes:
        place = Place(self.table)
        try:
            return place.read(SourceRef(self.table, place.root))
        except (FileNotFoundError, PermissionError) as error:
            raise DataError(f"there is no table of landmarks that can be read at {self.table}: {error}") from error


def read_landmarks(data: bytes, where: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The rows of a table by their photo's id; see :class:`LandmarkTableConfig`.

    Raises:
        DataError: neither CSV nor Parquet, or without the columns.
    """
    kind = "Parquet" if data[:4] == b"PAR1" else "CSV"
    if kind == "CSV" and b"\0" in data[:1024]:
        raise DataError(f"{where} is neither CSV, which is text, nor Parquet: expected {_FORMS}")
    try:
        if kind == "Parquet":
            table = parquet_table(data)
        else:
            ids = pa.csv.ConvertOptions(column_types={"image_id": pa.string()})
            table = pa.csv.read_csv(arrow_file(data), convert_options=ids)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{where} is no {kind} that can be read ({printable(str(error))}): expected {_FORMS}"
        ) from error
    names = set(table.column_names)
    if "image_id" not in names or not ("landmarks" in names or names.issuperset(FOUR)):
        raise DataError(
            f"{where} has the columns {printable(', '.join(sorted(names)))}: expected image_id, and {_FORMS}"
        )
    rows = defaultdict(list)
    for row in table.to_pylist():
        rows[str(row["image_id"])].append(row)
    return rows


class LandmarkTable(Detector):
    """See :class:`LandmarkTableConfig`. ``rows``: of :func:`read_landmarks`."""

    name = "landmarks"

    def __init__(self, rows: Mapping[str, Sequence[Mapping[str, Any]]], digest: str) -> None:
        self._rows, self.version = rows, digest[:12]

    def faces(self, photo: Image.Image, image_id: str, every: bool = False) -> list[Face]:
        rows = self._rows.get(image_id)
        if not rows:
            raise FaceRefused("no_landmarks", f"the table has no row whose image_id is {image_id!r}")
        return [_face(row, photo) for row in rows]


def _face(row: Mapping[str, Any], photo: Image.Image) -> Face:
    try:
        points = _points(row)
        # A face at the rim may be cut in two; of one with less in the photo, or one far larger, the crop would be made up.
        inside, longest = ((points > -1) & (points < photo.size)).all(1), max(photo.size)
        if inside.mean() < 0.5 or (points < -longest).any() or (points > 2 * longest).any():
            raise DataError(
                f"the points {points.round(1).tolist()} lie outside the photo of {photo.width}x{photo.height} pixels: they "
                "may be of another size of it, or of it before its EXIF orientation was applied"
            )
        quad = face_quad(*_four(points))
    except (DataError, ValueError, TypeError) as error:
        raise FaceRefused("bad_landmarks", f"its landmarks cannot be used: {error}") from error
    return Face(quad, points, float(row.get("score") or "nan"))


def _points(row: Mapping[str, Any]) -> np.ndarray:
    given = row.get("landmarks")
    values = given if given is not None else [[row[f"{p}_x"], row[f"{p}_y"]] for p in POINTS]
    points = np.asarray(values, np.float64)
    if points.shape not in ((4, 2), (5, 2), (68, 2)):
        raise DataError(f"expected {_FORMS}, got an array of shape {points.shape}")
    if not np.isfinite(points).all():
        raise DataError(f"some are missing or no numbers: {points.tolist()}")
    return points


def _four(points: np.ndarray) -> Sequence[np.ndarray]:
    if len(points) == 68:
        return landmarks68_to_points(points)
    return (*points[:2], *points[-2:])
