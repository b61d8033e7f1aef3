"""Open and save encoders: our folder (``config.json``, ``encoder.safetensors``), and published checkpoints.

An encoder belongs to a generator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
from safetensors.torch import save

from ganinv.config import StrictModel, validate
from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.files import load_into, pack_tensors, put_file
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.in_domain import InDomainConfig, InDomainEncoder
from ganinv.methods.psp import Psp
from ganinv.methods.published.checkpoints import Inverter, open_encoder_checkpoint
from ganinv.methods.restyle import ReStyle
from ganinv.methods.rows import RowEncoder, RowEncoderConfig
from ganinv.methods.w import NaiveWPlusEncoder, WEncoder, WEncoderConfig
from ganinv.reading.fetch import path_kind

ASSETS = Path(__file__).parent / "assets"

_METHODS: dict[str, tuple[type[StrictModel], type[ImageEncoder]]] = {
    "e4e": (E4eConfig, E4e),
    "psp": (RowEncoderConfig, Psp),
    "w": (WEncoderConfig, WEncoder),
    "naive-w+": (WEncoderConfig, NaiveWPlusEncoder),
    "in-domain": (InDomainConfig, InDomainEncoder),
}


def open_encoder(uri: str, *, generator: Generator, w_encoder: str | None = None) -> Inverter:
    """Open an encoder, frozen, on the generator's device: ``encoder(images [B, 3, R, R] in [-1, 1]) -> Code``.

    Args:
        uri: ``e4e`` for the encoder that ships with the embedded generator, a folder in our format, or a published
            checkpoint of pSp, e4e, ReStyle, HyperStyle, HFGI or In-Domain inversion (path or any fsspec URL).
        w_encoder: a HyperStyle checkpoint's encoder into W, which is a checkpoint of its own.

    Raises:
        GeneratorMismatch: it was trained for another generator.
        WeightsRefused: no encoder there, one of an unknown kind, or a damaged file.
    """
    folder = str(ASSETS / uri) if (ASSETS / uri / "config.json").is_file() else uri.rstrip("/")
    if path_kind(folder) == "file":
        start = None if w_encoder is None else open_encoder_checkpoint(w_encoder).encoder
        return open_encoder_checkpoint(folder, generator=generator).inverter(generator, w_encoder=start)
    encoder = _open_folder(folder, uri, generator)
    if isinstance(encoder, RowEncoder) and encoder.cfg.sees_rendering:
        return ReStyle(encoder, generator)
    return encoder


def open_e4e(uri: str, *, generator: Generator) -> E4e:
    """An e4e encoder in our format, to train on or to ship. Arguments and errors as ``open_encoder``."""
    encoder = open_encoder(uri, generator=generator)
    if not isinstance(encoder, E4e):
        raise WeightsRefused(f"{uri} is a {type(encoder).__name__}; expected an e4e encoder")
    return encoder


def save_encoder(
    encoder: ImageEncoder, uri: str, *, generator: Generator, half: bool = False, extra: dict[str, Any] | None = None
) -> None:
    """Write an encoder folder, bound to ``generator`` by its fingerprint."""
    fs, path = fsspec.url_to_fs(uri.rstrip("/"))
    fs.makedirs(path, exist_ok=True)
    for name, data in pack_encoder(encoder, generator=generator, half=half, extra=extra).items():
        put_file(fs, f"{path}/{name}", data)


def pack_encoder(
    encoder: ImageEncoder, *, generator: Generator, half: bool = False, extra: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """The files of our folder by name; ``config.json``, without which the folder is none, is the last."""
    meta = {
        "format": "ganinv-encoder-1",
        "method": next(name for name, (_, cls) in _METHODS.items() if type(encoder) is cls),
        "generator_name": generator.name,
        "generator_fingerprint": generator.fingerprint,
        "encoder": encoder.cfg.model_dump(mode="json"),
        **(extra or {}),
    }
    return {
        "encoder.safetensors": save(pack_tensors(encoder.state_dict(), half)),
        "config.json": json.dumps(meta, indent=2).encode(),
    }


def _open_folder(folder: str, uri: str, generator: Generator) -> ImageEncoder:
    fs, path = fsspec.url_to_fs(folder)
    try:
        meta = json.loads(fs.cat_file(f"{path}/config.json"))
    except (FileNotFoundError, ValueError) as error:
        raise WeightsRefused(
            f"no encoder at {uri!r}: expected a published checkpoint, or a folder with config.json and "
            "encoder.safetensors; train one with: ganinv train"
        ) from error
    if meta.get("generator_fingerprint") != generator.fingerprint:
        raise GeneratorMismatch(
            f"encoder {uri!r} was trained for generator {meta.get('generator_name')!r} "
            f"({str(meta.get('generator_fingerprint'))[:12]}), not for {generator.name!r} ({generator.fingerprint[:12]}); "
            "train one for this generator with: ganinv train, or take a method that needs none, such as pti-w"
        )
    if meta.get("method") not in _METHODS:
        raise WeightsRefused(f"{folder}: method {meta.get('method')!r} is not known; known are {', '.join(_METHODS)}")
    config, build = _METHODS[meta["method"]]
    encoder = build(validate(config, meta.get("encoder"), f"{folder}/config.json"))
    load_into(encoder, f"{folder}/encoder.safetensors")
    return encoder.to(generator.device).eval().requires_grad_(False)
