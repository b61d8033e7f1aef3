"""Open and save generators: our folder (``config.json`` and safetensors), and any other StyleGAN2 file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, overload

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors.torch import save
from torch import Tensor, nn

from ganinv.config import validate
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.catalogue import catalogue_hint
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator, DiscriminatorConfig
from ganinv.generators.formats.build import (
    build_discriminator,
    build_generator,
    empty_discriminator,
    empty_generator,
    fill,
)
from ganinv.generators.formats.find import FoundNetworks, Network, find
from ganinv.generators.formats.parts import some
from ganinv.generators.formats.write import write_nvidia, write_rosinality
from ganinv.generators.integers import as_integers, stored_parts
from ganinv.generators.provenance import Provenance
from ganinv.generators.stylegan2 import Generator
from ganinv.reading.checkpoint import Checkpoint, open_checkpoint
from ganinv.reading.fetch import path_kind
from ganinv.reading.machine import DAMAGE
from ganinv.reading.tensors import StoredTensor

ASSETS = Path(__file__).parent / "assets"
EMBEDDED = "portraits-64"
W_SAMPLES, W_SEED = 10_000, 123  # of ``measure_w``

Format = Literal["ganinv", "rosinality", "nvidia"]


@overload
def open_generator(
    uri: str = EMBEDDED,
    device: str | torch.device = "cpu",
    *,
    network: Literal["G_ema", "G"] | None = None,
    sha256: str | None = None,
) -> Generator: ...


@overload
def open_generator(
    uri: str, device: str | torch.device = "cpu", *, network: Literal["D"], sha256: str | None = None
) -> Discriminator: ...


def open_generator(
    uri: str = EMBEDDED,
    device: str | torch.device = "cpu",
    *,
    network: Network | None = None,
    sha256: str | None = None,
) -> Generator | Discriminator:
    """Open a generator, frozen and in evaluation mode. Nothing in a file is run.

    The kind of file is recognised by its content: NVIDIA pickles (StyleGAN2-ADA, StyleGAN2 from the StyleGAN3
    repository, TensorFlow's), generators tuned by PTI, rosinality checkpoints (also as the decoder of an encoder's
    checkpoint), GenForce and Hammer state dicts, what ``save_generator`` writes.

    Args:
        uri: the name of an embedded generator (``portraits-64``), a file, or a folder in our format (``config.json``,
            ``generator.safetensors``, optionally ``discriminator.safetensors``): a path or any fsspec URL. Remote files
            are kept in a cache (``$GANINV_CACHE``).
        network: which of the file's networks: ``G_ema`` (the default, or G if there is no average), ``G``, or ``D``,
            which returns the discriminator.
        sha256: refuse a file with another hash (of our folder: of ``generator.safetensors``).

    Returns:
        A generator with ``provenance``, and with ``discriminator`` if the file has one; otherwise ``discriminator`` is None
        and ``provenance.no_discriminator`` says why.

    Raises:
        WeightsRefused: no such file, not a StyleGAN2, damaged, incomplete, or with values that are not finite.
    """
    if (ASSETS / uri / "config.json").is_file():
        opened: Generator | Discriminator = _open_folder(str(ASSETS / uri), uri, network, sha256)
    else:
        kind = path_kind(uri, sha256)
        if kind == "missing":
            raise WeightsRefused(
                f"no generator at {uri!r}: expected a folder with config.json and generator.safetensors, a weight file, or "
                f"one of the embedded generators {embedded_names()}{catalogue_hint(uri)}"
            )
        opened = (
            _open_folder(uri.rstrip("/"), uri, network, sha256)
            if kind == "folder"
            else _open_file(uri, network, sha256)
        )
    return opened.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload,no-any-return]


def embedded_names() -> list[str]:
    """Generators that ship with this package."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def save_generator(
    generator: Generator,
    uri: str,
    format: Format = "ganinv",
    *,
    half: bool = False,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a generator, with its discriminator if it has one.

    Args:
        format: ``ganinv``, a folder of safetensors and JSON; ``rosinality``, a ``.pt`` for the programs that use its
            names; ``nvidia``, a torch file of plain state dicts with NVIDIA's names and the configuration.
        half: store weights in float16; the generator read back then has the rounded weights' fingerprint.
        extra: more keys for the record beside the weights (data, training length, licence).

    Raises:
        ConfigError: an unknown format, or a generator that the format cannot hold.
    """
    if format == "ganinv":
        fs, folder = fsspec.url_to_fs(uri.rstrip("/"))
        fs.makedirs(folder, exist_ok=True)
        for name, data in pack_generator(generator, half=half, extra=extra).items():
            put_file(fs, f"{folder}/{name}", data)
        return
    writers = {"rosinality": write_rosinality, "nvidia": write_nvidia}
    if format not in writers:
        raise ConfigError(f"unknown format {format!r}; there are: ganinv, {', '.join(writers)}")
    data = writers[format](generator, half, extra or {})
    fs, path = fsspec.url_to_fs(uri)
    fs.makedirs(path.rsplit("/", 1)[0] or "/", exist_ok=True)
    put_file(fs, path, data)


def pack_generator(
    generator: Generator, *, half: bool = False, extra: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """The files of our folder by name; ``config.json``, without which the folder is not read as one, is the last."""
    network = {n: t for n, t in generator.state_dict().items() if not n.startswith("discriminator.")}
    dtype: WeightType = "float16" if half else "float32"
    files = {"generator.safetensors": save(pack_tensors(network, dtype))}
    d = generator.discriminator
    if d is not None:
        files["discriminator.safetensors"] = save(pack_tensors(d.state_dict(), dtype))
    meta = {
        "format": "ganinv-generator-1",
        "name": generator.name,
        "generator": generator.cfg.model_dump(mode="json"),
        "discriminator": d is not None and d.cfg.model_dump(mode="json"),
        **(extra or {}),
    }
    return files | {"config.json": json.dumps(meta, indent=2).encode()}


def put_file(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file whole: a process that is killed meanwhile leaves what was there before. Object storage does so by itself."""
    from ganinv.store.local import replace_file  # the store needs pyarrow, which reading weights does not

    if isinstance(fs, LocalFileSystem):
        replace_file(path, data)
    else:
        fs.pipe_file(path, data)


def load_into(module: nn.Module, uri: str) -> None:
    """Fill ``module`` from a safetensors file; every tensor must be there, fit, and be finite."""
    with open_checkpoint(uri) as checkpoint:
        _fill_from(module, checkpoint)


WeightType = Literal["float32", "float16", "int8"]
"""Of weights in a file. ``int8`` is for large tensors, with a step for each row; the others are float16 there."""
_LARGE = 4096
"""Numbers of a tensor from which it is written as integers: of smaller ones there is little to save."""


def pack_tensors(tensors: Mapping[str, Tensor], dtype: WeightType) -> dict[str, Tensor]:
    """As they are written to a file; ``load_into`` reads them."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if dtype == "int8" and value.ndim > 1 and value.numel() >= _LARGE:
            packed |= as_integers(name, value.float(), tuple(range(1, value.ndim)))
        else:
            packed[name] = value.to(torch.float32 if dtype == "float32" else torch.float16).contiguous()
    return packed


def _open_file(uri: str, network: Network | None, sha256: str | None) -> Generator | Discriminator:
    with open_checkpoint(uri, sha256=sha256) as checkpoint:
        with _naming(uri):
            found = find(checkpoint.tree, network)
            opened = _build(found, checkpoint)
            opened.provenance = _provenance(found, checkpoint)
        return opened


@contextlib.contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Make refusals name the file, and turn any other error that a damaged file causes into a refusal."""
    try:
        yield
    except WeightsRefused as error:
        raise WeightsRefused(f"{uri}: {error}") from error
    except DAMAGE as error:
        raise WeightsRefused(
            f"{uri}: damaged, its networks cannot be built ({type(error).__name__}: {error})"
        ) from error


def _build(found: FoundNetworks, checkpoint: Checkpoint) -> Generator | Discriminator:
    if found.generator is None:
        assert found.discriminator is not None
        return build_discriminator(found.discriminator, checkpoint.size)
    generator = build_generator(found.generator, checkpoint.size)
    generator.name = Path(checkpoint.uri).stem or generator.name
    keep_mean = "w_mean" in found.generator.parts
    if found.w_std is not None and keep_mean:
        generator.w_std.fill_(found.w_std)
    else:
        generator.measure_w_later(keep_mean=keep_mean)
        names = ("w_std",) if keep_mean else ("w_mean", "w_std")
        found.generator.notes["w"] = {name: {"samples": W_SAMPLES, "seed": W_SEED} for name in names}
    if found.discriminator is not None:
        try:
            generator.discriminator = _matching(build_discriminator(found.discriminator, checkpoint.size), generator)
        except WeightsRefused as error:
            found.no_discriminator = str(error)
    return generator


def _matching(discriminator: Discriminator, generator: Generator) -> Discriminator:
    ours = (generator.resolution, generator.img_channels)
    theirs = (discriminator.resolution, discriminator.cfg.img_channels)
    if ours != theirs:
        raise WeightsRefused(f"the discriminator is for (resolution, channels) {theirs}, the generator makes {ours}")
    return discriminator


def _provenance(found: FoundNetworks, checkpoint: Checkpoint) -> Provenance:
    description = found.generator or found.discriminator
    assert description is not None
    notes = description.notes
    return Provenance(
        uri=checkpoint.uri,
        sha256=checkpoint.sha256,
        layout=description.layout,
        container=checkpoint.container,
        network=found.network,
        computed={**notes.get("w", {}), **({"noise": notes["noise"]} if "noise" in notes else {})},
        assumed=notes.get("assumed", {}),
        no_discriminator=found.no_discriminator,
    )


def _open_folder(folder: str, uri: str, network: Network | None, sha256: str | None) -> Generator | Discriminator:
    meta = read_json(f"{folder}/config.json")
    cfg = validate(GeneratorConfig, meta.get("generator"), f"{folder}/config.json")
    provenance: dict[str, Any] = {
        "uri": uri,
        "layout": "ganinv",
        "container": "safetensors",
        "network": network or "G_ema",
    }
    if network == "D":
        d = _folder_discriminator(folder, cfg, meta)
        if d is None:
            raise WeightsRefused(f"{uri}: the folder has no discriminator")
        return d
    with open_checkpoint(f"{folder}/generator.safetensors", sha256=sha256) as checkpoint:
        with _naming(uri):
            generator = empty_generator(cfg, checkpoint.size)
        generator.name = str(meta.get("name", uri))[:100]
        _fill_from(generator, checkpoint)
        generator.discriminator = _folder_discriminator(folder, cfg, meta)
        without = "" if generator.discriminator is not None else "the folder has no discriminator"
        if float(generator.w_std) == 0.0:
            generator.measure_w()
            provenance["computed"] = {name: {"samples": W_SAMPLES, "seed": W_SEED} for name in ("w_mean", "w_std")}
        if isinstance(origin := meta.get("origin"), dict):
            provenance["origin"] = origin
        generator.provenance = Provenance(**provenance, sha256=checkpoint.sha256, no_discriminator=without)
    return generator


def _folder_discriminator(folder: str, cfg: GeneratorConfig, meta: dict[str, Any]) -> Discriminator | None:
    """``discriminator`` in the config: false, true (the plain one of the generator's shape), or its configuration."""
    said = meta.get("discriminator")
    if not said:
        return None
    if isinstance(said, dict):
        wanted = validate(DiscriminatorConfig, said, f"{folder}/config.json")
    else:
        wanted = DiscriminatorConfig(resolution=cfg.resolution, channels=cfg.channels, img_channels=cfg.img_channels)
    with open_checkpoint(f"{folder}/discriminator.safetensors") as checkpoint:
        with _naming(checkpoint.uri):
            d = empty_discriminator(wanted, checkpoint.size)
        _fill_from(d, checkpoint)
    return d


def _fill_from(module: nn.Module, checkpoint: Checkpoint) -> None:
    uri = checkpoint.uri
    if checkpoint.container != "safetensors":
        raise WeightsRefused(f"{uri} is not a whole safetensors file: it is a {checkpoint.container}")
    tensors = cast(dict[str, StoredTensor], checkpoint.tree)
    wanted = {n: t for n, t in module.state_dict().items() if not n.startswith("discriminator.")}
    with _naming(uri):
        parts = stored_parts(tensors)
    missing, unknown = sorted(wanted.keys() - parts.keys()), sorted(parts.keys() - wanted.keys())
    if missing or unknown:
        raise WeightsRefused(
            f"{uri} does not fit the network its config describes: missing {some(missing)}, unexpected {some(unknown)}"
        )
    for name, own in wanted.items():
        if parts[name].shape != tuple(own.shape):
            raise WeightsRefused(f"{uri}: {name} has shape {parts[name].shape}, expected {tuple(own.shape)}")
    with _naming(uri):
        fill(module, parts)


def read_json(uri: str) -> dict[str, Any]:
    """The record beside the weights of a folder in our format."""
    fs, path = fsspec.url_to_fs(uri)
    try:
        data = json.loads(fs.cat_file(path))
    except (ValueError, RecursionError) as error:
        raise WeightsRefused(f"{uri} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise WeightsRefused(f"{uri} must hold a JSON object, got {type(data).__name__}")
    return data
