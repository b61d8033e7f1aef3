"""Images of stored codes, ready for an HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import GaninvError
from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader
from ganinv.report.inversions import columns_of
from ganinv.store import Collection

SourceImages = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
"""Maps image ids to uint8 [H, W, 3] images; ids that cannot be read may be missing."""

ReaderOf = Callable[[Collection], CodeReader]
"""Maps a collection of latents or edits to the reader of its codes, which has the generator that renders them."""

LARGEST_PNG, LARGEST = 96, 192
"""Sides in pixels. Images up to the first are kept as they are; images above the second are made smaller."""

_CODE_COLUMNS = ("image_id", "w", "extras_uri", "extras_sha256", "extras_bytes", "style_offsets", "segment_move")


def data_uri(image: np.ndarray, largest: int = LARGEST) -> str:
    """A uint8 [H, W, 3] image as a data URI: PNG if it is small, else JPEG of at most ``largest`` pixels a side."""
    picture, sink = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= LARGEST_PNG:
        picture.save(sink, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        picture.save(sink, "JPEG", quality=88, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(sink.getvalue()).decode()}"


def pixels(images: Tensor) -> np.ndarray:
    """Images [B, C, R, R] in [-1, 1] as uint8 [B, R, R, 3]."""
    rgb = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    scaled = torch.nan_to_num(rgb.float()).clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def render_w(generator: Generator, w: np.ndarray) -> list[str]:
    """Data URIs of latents [N, w_dim] or [N, num_ws, w_dim]."""
    latent = torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)).to(generator.device)
    if latent.ndim == 2:
        latent = latent[:, None].expand(-1, generator.num_ws, -1)
    return [data_uri(image) for image in pixels(generator.render(Code(latent)))] if len(latent) else []


def read_codes(collection: Collection, ids: Sequence[str], extra: Sequence[str] = ()) -> pa.Table | None:
    """Rows of some images with all columns that their codes need; None if there are none. Unplanned ids have no row."""
    planned = sorted(set(ids).intersection(collection.plan().ids))
    columns = [name for name in columns_of(collection) if name in _CODE_COLUMNS or name in extra]
    if not planned or "w" not in columns:
        return None
    table = collection.read(columns, planned)
    return table if table.num_rows else None


def render_rows(reader: CodeReader, table: pa.Table) -> list[tuple[str | None, str]]:
    """(data URI, "") for every row, or (None, reason). Rows are rendered one at a time, because tuned weights of many images
    are large."""
    rendered: list[tuple[str | None, str]] = []
    for row in range(table.num_rows):
        try:
            code = reader.codes(table, [row]).to(reader.generator.device)
            rendered.append((data_uri(pixels(reader.generator.render(code))[0]), ""))
        except (GaninvError, ValueError) as error:
            rendered.append((None, str(error)))
    return rendered


def read_sources(source_images: SourceImages, ids: Sequence[str], side: int) -> dict[str, str]:
    """Image id -> data URI of the source at the generator's resolution; images that cannot be read are left out."""
    found: dict[str, np.ndarray] = {}
    try:
        found.update(source_images(list(ids)))
    except (GaninvError, OSError, KeyError):  # one bad image must not take the others with it
        for image_id in ids:
            try:
                found.update(source_images([image_id]))
            except (GaninvError, OSError, KeyError):
                continue
    return {image_id: data_uri(_sized(image, side)) for image_id, image in found.items() if image_id in set(ids)}


def _sized(image: np.ndarray, side: int) -> np.ndarray:
    rgb = np.asarray(image, dtype=np.uint8)
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS))
