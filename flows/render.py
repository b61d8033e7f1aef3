"""Rendering stored inversions to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ganinv.generators.files import open_generator
from ganinv.store import open_store, table_to_code
from ganinv.store.names import quoted_id
from tasks.edit import check_generator, png_bytes


def render_latents(store: str, name: str, out: Path, ids: Sequence[str] | None, generator_uri: str) -> int:
    """Write ``<out>/<image id>.png`` for the rows of ``latents/<name>``. Returns how many."""
    root, generator = open_store(store), open_generator(generator_uri)
    collection = root.latents[name]
    check_generator(collection.provenance(), generator.fingerprint, generator.name, f"latents {name!r}")
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for batch in collection.scan(ids=ids, batch_size=16):
        table = pa.Table.from_batches([batch])
        images = generator.render(table_to_code(table, root))
        for image_id, image in zip(table["image_id"].to_pylist(), images, strict=True):
            (out / f"{quoted_id(image_id)}.png").write_bytes(png_bytes(image))
            written += 1
    return written
