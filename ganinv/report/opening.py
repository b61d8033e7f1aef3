"""The beginning of a report: photos as they were, and with edited faces pasted back into them."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ganinv.errors import GaninvError
from ganinv.report.words import signed
from ganinv.store import Collection

Photos = Callable[[Sequence[str]], Mapping[str, Image.Image]]
"""Maps ids of photos to the photos, turned upright; photos that cannot be read may be missing."""

MOST_PHOTOS, MOST_EDITS, SIDE = 4, 4, 480


@dataclass(frozen=True)
class PhotoRow:
    """A photo and its edited versions, as (caption, data URI); the photo itself comes first."""

    label: str
    pictures: tuple[tuple[str, str], ...]


def photo_rows(pasted: Collection | None, photos: Photos) -> list[PhotoRow]:
    """Some photos with the edits that were pasted into them; for each edit, its greatest strength."""
    if pasted is None or not pasted.done():
        return []
    table = pasted.read(["image_id", "edit", "strength", "uri"]).to_pylist()
    strongest: dict[tuple[str, str], tuple[float, str]] = {}
    for row in table:
        key, strength = (row["image_id"], row["edit"]), float(row["strength"])
        if key not in strongest or abs(strength) >= abs(strongest[key][0]):
            strongest[key] = strength, row["uri"]
    edits: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
    for (photo, edit), (strength, uri) in strongest.items():
        edits[photo].append((edit, strength, uri))
    ids = sorted(edits)[:MOST_PHOTOS]
    originals = photos(ids)
    rows = []
    for photo in ids:
        pictures = [("the photo", _uri(originals[photo]))] if photo in originals else []
        for edit, strength, uri in edits[photo][:MOST_EDITS]:
            try:
                image = Image.open(io.BytesIO(pasted.objects.read(uri)))
            except (GaninvError, OSError):  # a picture that is gone must not take the report with it
                continue
            pictures.append((edit if strength == 1 else f"{edit} {signed(strength, 1)}", _uri(image)))
        rows.append(PhotoRow(photo, tuple(pictures)))
    return rows


def _uri(image: Image.Image) -> str:
    picture, sink = image.convert("RGB"), io.BytesIO()
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(sink, "JPEG", quality=88, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
