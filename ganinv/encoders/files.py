"""Open and save encoders: a folder with ``config.json`` and ``encoder.safetensors``. An encoder belongs to a generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
from safetensors.torch import save

from ganinv.config import validate
from ganinv.encoders.e4e import E4e, E4eConfig
from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.files import load_into, pack_tensors
from ganinv.generators.stylegan2 import Generator

ASSETS = Path(__file__).parent / "assets"


def open_encoder(uri: str, *, generator: Generator) -> E4e:
    """Open an encoder, frozen.

    Args:
        uri: ``e4e`` for the encoder that ships with the embedded generator, or a folder (any fsspec URL).

    Raises:
        GeneratorMismatch: it was trained for another generator.
        WeightsRefused: no encoder there, or a damaged file.
    """
    folder = str(ASSETS / uri) if (ASSETS / uri / "config.json").is_file() else uri.rstrip("/")
    fs, path = fsspec.url_to_fs(folder)
    try:
        meta = json.loads(fs.cat_file(f"{path}/config.json"))
    except (FileNotFoundError, ValueError) as error:
        raise WeightsRefused(
            f"no encoder at {uri!r}: expected a folder with config.json and encoder.safetensors; "
            "train one with: ganinv train"
        ) from error
    if meta.get("generator_fingerprint") != generator.fingerprint:
        raise GeneratorMismatch(
            f"encoder {uri!r} was trained for generator {meta.get('generator_name')!r} "
            f"({str(meta.get('generator_fingerprint'))[:12]}), not for {generator.name!r} ({generator.fingerprint[:12]}); "
            "train one for this generator with: ganinv train"
        )
    encoder = E4e(validate(E4eConfig, meta["encoder"], f"{folder}/config.json"))
    load_into(encoder, f"{folder}/encoder.safetensors")
    return encoder.to(generator.device).eval().requires_grad_(False)


def save_encoder(
    encoder: E4e, uri: str, *, generator: Generator, half: bool = False, extra: dict[str, Any] | None = None
) -> None:
    """Write an encoder folder, bound to ``generator`` by its fingerprint."""
    fs, path = fsspec.url_to_fs(uri.rstrip("/"))
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/encoder.safetensors", save(pack_tensors(encoder.state_dict(), half)))
    meta = {
        "format": "ganinv-encoder-1",
        "method": "e4e",
        "generator_name": generator.name,
        "generator_fingerprint": generator.fingerprint,
        "encoder": encoder.cfg.model_dump(mode="json"),
        **(extra or {}),
    }
    fs.pipe_file(f"{path}/config.json", json.dumps(meta, indent=2).encode())
