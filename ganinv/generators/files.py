"""Open and save generators. Our format is a folder: ``config.json`` and safetensors. Nothing in it can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ganinv.config import validate
from ganinv.errors import WeightsRefused
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig

ASSETS = Path(__file__).parent / "assets"
EMBEDDED = "portraits-64"


def open_generator(uri: str = EMBEDDED, device: str | torch.device = "cpu") -> Generator:
    """Open a generator, frozen and in evaluation mode.

    Args:
        uri: the name of an embedded generator (``portraits-64``), or a folder (any fsspec URL) in our format:
            ``config.json``, ``generator.safetensors``, and optionally ``discriminator.safetensors``.

    Raises:
        WeightsRefused: no such generator, a damaged file, missing or unexpected tensors, or values that are not finite.
    """
    folder = str(ASSETS / uri) if (ASSETS / uri / "config.json").is_file() else uri.rstrip("/")
    meta = _read_json(f"{folder}/config.json", uri)
    cfg = validate(GeneratorConfig, meta.get("generator"), f"{folder}/config.json")
    generator = Generator(cfg)
    generator.name = str(meta.get("name", uri))
    load_into(generator, f"{folder}/generator.safetensors")
    if meta.get("discriminator"):
        generator.discriminator = Discriminator(cfg.resolution, cfg.channels, cfg.img_channels)
        load_into(generator.discriminator, f"{folder}/discriminator.safetensors")
    if float(generator.w_std) == 0.0:
        generator.measure_w()
    return generator.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload,no-any-return]


def save_generator(generator: Generator, uri: str, *, half: bool = False, extra: dict[str, Any] | None = None) -> None:
    """Write a generator (and its discriminator, if it has one) as a folder in our format.

    Args:
        half: store weights in float16; the generator read back then has the rounded weights' fingerprint.
        extra: more keys for ``config.json`` (data, training length, licence).
    """
    folder = uri.rstrip("/")
    fs, path = fsspec.url_to_fs(folder)
    fs.makedirs(path, exist_ok=True)
    network = {n: t for n, t in generator.state_dict().items() if not n.startswith("discriminator.")}
    fs.pipe_file(f"{path}/generator.safetensors", save(pack_tensors(network, half)))
    if generator.discriminator is not None:
        fs.pipe_file(
            f"{path}/discriminator.safetensors", save(pack_tensors(generator.discriminator.state_dict(), half))
        )
    meta = {
        "format": "ganinv-generator-1",
        "name": generator.name,
        "generator": generator.cfg.model_dump(mode="json"),
        "discriminator": generator.discriminator is not None,
        **(extra or {}),
    }
    fs.pipe_file(f"{path}/config.json", json.dumps(meta, indent=2).encode())


def load_into(module: nn.Module, uri: str) -> None:
    """Fill ``module`` from a safetensors file; every tensor must be there, fit, and be finite."""
    tensors = _read_tensors(uri)
    wanted = {n: t for n, t in module.state_dict().items() if not n.startswith("discriminator.")}
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        raise WeightsRefused(
            f"{uri} does not fit the network its config describes: missing {missing[:5]}, unexpected {unknown[:5]}"
        )
    for name, own in wanted.items():
        tensor = tensors[name].float()
        if tensor.shape != own.shape:
            raise WeightsRefused(f"{uri}: {name} has shape {tuple(tensor.shape)}, expected {tuple(own.shape)}")
        if not torch.isfinite(tensor).all():
            raise WeightsRefused(f"{uri}: {name} holds values that are not finite (NaN or infinity)")
        with torch.no_grad():
            own.copy_(tensor)


def pack_tensors(tensors: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    dtype = torch.float16 if half else torch.float32
    return {n: t.detach().cpu().to(dtype).contiguous() for n, t in tensors.items()}


def _read_tensors(uri: str) -> dict[str, Tensor]:
    try:
        return load(_read(uri))
    except SafetensorError as error:
        raise WeightsRefused(f"{uri} is not a whole safetensors file: {error}") from error


def _read_json(uri: str, asked: str) -> dict[str, Any]:
    try:
        data = json.loads(_read(uri))
    except FileNotFoundError as error:
        embedded = sorted(p.parent.name for p in ASSETS.glob("*/config.json"))
        raise WeightsRefused(
            f"no generator at {asked!r}: expected a folder with config.json and generator.safetensors, or one of the "
            f"embedded generators {embedded}"
        ) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise WeightsRefused(f"{uri} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise WeightsRefused(f"{uri} must hold a JSON object, got {type(data).__name__}")
    return data


def _read(uri: str) -> bytes:
    fs, path = fsspec.url_to_fs(uri)
    return fs.cat_file(path)
