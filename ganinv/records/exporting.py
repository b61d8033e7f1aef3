"""Stored inversions for other programs: latents in their layouts, and the tuned generator of each image that has one."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import fsspec
import numpy as np
import pyarrow as pa
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.baking import bake
from ganinv.generators.files import put_file, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records.reader import CodeReader
from ganinv.store import Collection, Store
from ganinv.store.names import quoted_id

Layout = Literal["projected-w", "latents-pt", "latents-npy", "pivots"]
GeneratorFormat = Literal["rosinality", "nvidia", "ganinv"]
SUFFIX = {"rosinality": ".pt", "nvidia": ".pt", "ganinv": ""}


@dataclass
class Written:
    """What was written.

    Args:
        latents: how many. generators: tuned ones among them. files: in all.
        left: part of a code that no file of other programs holds -> images whose rendering lacks it there.
    """

    latents: int = 0
    generators: int = 0
    files: int = 0
    left: Counter[str] = field(default_factory=Counter)


def export_latents(
    collection: Collection,
    store: Store,
    generator: Generator,
    out: str,
    layout: Layout = "latents-pt",
    *,
    ids: Iterable[str] | None = None,
    generators: GeneratorFormat | None = "rosinality",
    encoders: Mapping[str, str] | None = None,
    needed: Mapping[str, str] | None = None,
) -> Written:
    """Write ``latents/<name>`` into the folder ``out``, a path or any fsspec URL.

    Args:
        layout: ``projected-w``: ``<image>/projected_w.npz`` with ``w`` [1, L, D], of NVIDIA's projector. ``pivots``:
            ``<image>/0.pt`` [1, L, D], of PTI. ``latents-pt``: one ``latents.pt`` [N, L, D], of pSp and e4e, and the names in
            ``names.txt``. ``latents-npy``: one ``latents.npy`` [N, L, D], and the names.
        ids: of these images alone.
        generators: the format of the tuned generators, ``generators/<image>.pt`` (a folder in our format); None writes none.
        encoders, needed: of ``CodeReader``.

    Raises:
        ConfigError: no images. WeightsRefused: extras that are not what their rows recorded.
    """
    fs, root = fsspec.url_to_fs(out.rstrip("/"))
    said, names, all_w = Written(), list[str](), list[np.ndarray]()

    def put(path: str, data: bytes) -> None:
        fs.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
        put_file(fs, f"{root}/{path}", data)
        said.files += 1

    reader = CodeReader(store, collection, generator, encoders=encoders, needed=needed)
    for batch in collection.scan(ids=None if ids is None else list(ids), batch_size=16):
        table = pa.Table.from_batches([batch])
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            code, place = reader.codes(table, [row]), quoted_id(image_id)
            w = code.w.numpy().astype(np.float32)
            said.latents += 1
            if layout in ("projected-w", "pivots"):
                name = "projected_w.npz" if layout == "projected-w" else "0.pt"
                put(f"{place}/{name}", _ONE[layout](w))
            else:
                names.append(image_id)
                all_w.append(w[0])
            own = _tuned(generator, code, said)
            if own is not None and generators is not None:
                fs.makedirs(f"{root}/generators", exist_ok=True)
                save_generator(own, f"{out.rstrip('/')}/generators/{place}{SUFFIX[generators]}", generators)
                said.generators += 1
                said.files += 1
    if not said.latents:
        raise ConfigError(
            f"there are no latents to export in {collection.url}: none of its images went well, or is named"
        )
    if all_w:
        stacked = np.stack(all_w)
        put("latents.pt" if layout == "latents-pt" else "latents.npy", _MANY[layout](stacked))
        put("names.txt", "".join(f"{_in_a_line(name)}\n" for name in names).encode())
    return said


def _in_a_line(name: str) -> str:
    """A name as one line of a text file that gives it back; one with line breaks, or blanks at its ends, as in names of files."""
    return name if name.splitlines() == [name] and name == name.strip() else quoted_id(name)


def _tuned(generator: Generator, code: Code, said: Written) -> Generator | None:
    """The generator of a code's own; what it cannot hold is counted."""
    own, left = bake(generator, code)
    said.left.update(left)
    return None if own is generator else own


def _npz(w: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=w)
    return buffer.getvalue()


def _npy(w: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, w)
    return buffer.getvalue()


def _pt(w: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(w.copy()), buffer)
    return buffer.getvalue()


_ONE: dict[str, Callable[[np.ndarray], bytes]] = {"projected-w": _npz, "pivots": _pt}
_MANY: dict[str, Callable[[np.ndarray], bytes]] = {"latents-pt": _pt, "latents-npy": _npy}
