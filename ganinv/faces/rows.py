"""Aligned faces as rows of a table, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ganinv.data.png import quick_png
from ganinv.faces.aligning import Aligned

_POINTS = pa.list_(pa.list_(pa.float64()))
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),  # of the photo
        ("face_id", pa.string()),  # of the face: what the steps after it call an image
        ("face", pa.int32()),  # 0 is the largest
        ("source_uri", pa.string()),
        ("source_sha256", pa.string()),
        ("width", pa.int32()),  # of the photo, upright
        ("height", pa.int32()),
        ("quad", _POINTS),  # 4 corners (x, y), in pixels of the photo
        ("landmarks", _POINTS),
        ("side", pa.float32()),  # of the crop, in pixels of the photo
        ("turned", pa.float32()),  # degrees, clockwise
        ("outside", pa.float32()),  # share of the crop that is not part of the photo
        ("score", pa.float32()),
        ("detector", pa.string()),
        ("detector_version", pa.string()),
        ("size", pa.int32()),  # of the crop that is stored
        ("image_png", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Source:
    """A photo: its id, where it is, the sha256 of its file, and (width, height) upright."""

    image_id: str
    uri: str
    sha256: str
    size: tuple[int, int]


_AS_A_FACE = re.compile(r".*~face\d+", re.DOTALL)


def face_id(image_id: str, face: int) -> str:
    """Of the n-th face of a photo, from 0: the largest has the photo's id.

    A photo that is itself named as a face would be: its largest face is ``photo~face2~face1``, for ``photo~face2`` is the
    second face of ``photo``, which may be in the same folder.
    """
    return image_id if face == 0 and not _AS_A_FACE.fullmatch(image_id) else f"{image_id}~face{face + 1}"


def aligned_table(photos: Sequence[tuple[Source, Sequence[Aligned]]]) -> pa.Table:
    """One row for each face, the faces of a photo from the largest on."""
    rows = [_row(source, number, face) for source, faces in photos for number, face in enumerate(faces)]
    return pa.Table.from_pylist(rows, _SCHEMA)


def quad_of(row: Mapping[str, Any]) -> np.ndarray:
    """The corners [4, 2] of a row."""
    return np.array(row["quad"], np.float64)


def _row(source: Source, number: int, aligned: Aligned) -> dict[str, Any]:
    face = aligned.face
    return {
        "image_id": source.image_id,
        "face_id": face_id(source.image_id, number),
        "face": number,
        "source_uri": source.uri,
        "source_sha256": source.sha256,
        "width": source.size[0],
        "height": source.size[1],
        "quad": face.quad.tolist(),
        "landmarks": face.landmarks.tolist(),
        "side": face.side,
        "turned": face.turned,
        "outside": aligned.outside,
        "score": face.score if np.isfinite(face.score) else None,
        "detector": aligned.detector,
        "detector_version": aligned.version,
        "size": aligned.crop.width,
        "image_png": quick_png(aligned.crop),
    }
