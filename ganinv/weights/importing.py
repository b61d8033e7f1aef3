"""Bring weights from elsewhere to a store, in our format and under a name; and take them out for other programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec

from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.catalogue import PublishedGenerator, Source, find_source
from ganinv.generators.files import Format, embedded_names, open_generator, pack_generator, read_json, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import hashing_once
from ganinv.methods.files import FORMAT, open_inverter, pack_inverter
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.reading.checkpoint import open_checkpoint
from ganinv.reading.download import DownloadProgress
from ganinv.reading.fetch import fetch, path_kind
from ganinv.store.folders import keep_folder
from ganinv.store.names import checked_name
from ganinv.store.store import Store
from ganinv.weights.inspection import find_encoder

Kind = Literal["generator", "encoder"]
Average = Literal["G_ema", "G"]


@dataclass(frozen=True)
class Imported:
    """Weights in a store.

    Attributes:
        uri: what jobs and ``open_generator`` or ``open_inverter`` take.
        already: they stood there before, whole.
        origin: the record of the file that they come from.
    """

    kind: Kind
    name: str
    uri: str
    fingerprint: str
    already: bool
    origin: dict[str, Any]


def import_weights(
    source: str | Source,
    store: Store,
    name: str | None = None,
    *,
    only: Kind | None = None,
    network: Average | None = None,
    generator: str | None = None,
    encoder_type: str | None = None,
    needed: Mapping[str, str] | None = None,
    progress: DownloadProgress | None = None,
) -> list[Imported]:
    """Copy a generator to ``<store>/generators/<name>``, or a published encoder to ``<store>/encoders/<name>`` with its
    decoder as the generator. Run again, it finds everything in place; killed in the middle, it continues.

    Args:
        source: a name of the catalogue, anything that ``open_generator`` takes, or a published encoder checkpoint.
        name: in the store; by default the catalogue's name, or the file's.
        only: of an encoder checkpoint, this part alone.
        network: which generator of the file; by default G_ema, or G if there is no average.
        generator: the one that an encoder is to be bound to, instead of its own decoder, which must have its weights.
        encoder_type: the published class of an encoder whose options do not name it.
        needed: by role, what an encoder starts from and is a file of its own (HyperStyle's ``w_encoder``): a name of the
            store, a folder or a published checkpoint. It is stored with the encoder.
        progress: called during a download.

    Returns:
        What is in the store now: the generator first.

    Raises:
        WeightsRefused: no such weights, damaged, not what the catalogue says, or something our format cannot hold.
        GeneratorMismatch: the encoder was trained for another generator than ``generator``.
        RunConflict: the store has other weights under this name.
    """
    source = find_source(source) if isinstance(source, str) else source
    name = checked_name("weights", name or _default_name(source))
    method = _encoder_method(source, encoder_type, progress)
    if method is None and only == "encoder":
        raise WeightsRefused(f"{source.url} is not a published encoder checkpoint, so there is no encoder to import")
    if method is None or only == "generator":
        return [_keep_generator(_open_generator(source, network), source, store, name)]
    return _import_encoder(source, store, name, generator, encoder_type, only, needed or {})


def export_generator(
    source: str | Source,
    uri: str,
    format: Format = "ganinv",
    *,
    network: Average | None = None,
    half: bool = False,
    overwrite: bool = False,
    progress: DownloadProgress | None = None,
) -> Generator:
    """Write a generator for other programs; see ``save_generator`` for the formats.

    Args:
        half: store weights in float16, which rounds them.
        overwrite: overwrite what is at ``uri``.

    Raises:
        ConfigError: a generator that the format cannot hold, or there is something at ``uri``.
        WeightsRefused: ``source`` cannot be opened.
    """
    source = find_source(source) if isinstance(source, str) else source
    fs, path = fsspec.url_to_fs(uri)
    if not overwrite and fs.exists(path):
        raise ConfigError(
            f"there is something at {uri} already: choose another place, or say that it may be overwritten"
        )
    fetch_source(source, progress)
    opened = _open_generator(source, network)
    origin = _origin(opened, source.entry)
    if "://" not in origin["uri"]:
        origin["uri"] = Path(
            origin["uri"]
        ).name  # the file may go to others, whom folders of this machine do not concern
    save_generator(opened, uri, format, half=half, extra={"origin": origin})
    return opened


def _keep_generator(generator: Generator, source: Source, store: Store, name: str) -> Imported:
    generator.name = name
    origin = _origin(generator, source.entry)
    files = pack_generator(generator, extra={"origin": origin})
    return _keep(store, "generator", name, generator.fingerprint, files, origin)


def _import_encoder(
    source: Source,
    store: Store,
    name: str,
    generator_uri: str | None,
    encoder_type: str | None,
    only: Kind | None,
    needed: Mapping[str, str],
) -> list[Imported]:
    generator = None if generator_uri is None else open_generator(generator_uri)
    opened = open_encoder_checkpoint(source.url, encoder_type=encoder_type, generator=generator)
    if opened.generator is None and generator is None:
        raise WeightsRefused(
            f"{source.url} has no decoder, and an encoder in our format is bound to its generator: say which one it is for"
        )
    if generator is None:
        generator = _open_generator(source, None)
        generator.name = name
    roles = {
        role: open_inverter(uri, generator=generator, store=store, default_type=opened.expects.get(role))
        for role, uri in needed.items()
    }
    encoder = opened.inverter(generator, needed=roles)  # refuses another generator
    for role in encoder.needs:
        encoder.need(role)  # what is stored works by itself
    with open_checkpoint(source.url, sha256=source.sha256) as checkpoint:
        origin: dict[str, Any] = {"uri": source.url, "sha256": checkpoint.sha256, "container": checkpoint.container}
    origin |= {"method": opened.method, "encoder_type": opened.what.encoder_type, "opts": opened.opts}
    origin |= {"latent_avg": opened.latent_avg_source}
    with hashing_once():
        files = pack_inverter(encoder, generator=generator, extra={"origin": origin})
        fingerprint = encoder.fingerprint
    # Only now, when the encoder cannot be refused any more: what is refused leaves nothing.
    kept = [_keep_generator(generator, source, store, name)] if generator_uri is None and only is None else []
    return [*kept, _keep(store, "encoder", name, fingerprint, files, origin)]


def _open_generator(source: Source, network: Average | None) -> Generator:
    generator = open_generator(source.url, network=network, sha256=source.sha256)
    entry = source.entry
    if entry is not None and generator.resolution != entry.resolution:
        raise WeightsRefused(
            f"{source.url} makes images of {generator.resolution}x{generator.resolution}, the catalogue says that "
            f"{entry.name!r} makes {entry.resolution}x{entry.resolution}: the host has another file there now"
        )
    return generator


def _origin(generator: Generator, entry: PublishedGenerator | None) -> dict[str, Any]:
    origin = generator.provenance.as_origin() if generator.provenance is not None else {}
    if entry is not None:
        origin |= {"catalogue": entry.name, "licence": entry.licence.model_dump()}
    return origin


def _encoder_method(source: Source, encoder_type: str | None, progress: DownloadProgress | None) -> str | None:
    """``psp``, ``e4e``, ... of a published encoder checkpoint; None for anything else."""
    kind = fetch_source(source, progress)
    if kind == "folder" and source.url not in embedded_names():
        record = read_json(f"{source.url.rstrip('/')}/config.json")
        if record.get("format") == FORMAT:
            raise WeightsRefused(f"{source.url} is an encoder in our format already: use it by this URL")
    if kind != "file":
        return None
    with open_checkpoint(source.url, sha256=source.sha256) as checkpoint:
        what, refused = find_encoder(checkpoint.tree, encoder_type, source.url)
    if refused:
        raise WeightsRefused(refused)
    return None if what is None else what.method


def fetch_source(source: Source, progress: DownloadProgress | None = None) -> Literal["file", "folder", "missing"]:
    """What is there; a remote file is in the cache afterwards."""
    kind = "folder" if source.url in embedded_names() else path_kind(source.url, source.sha256)
    if kind == "file":
        fetch(source.url, source.sha256, progress=progress)
    return kind


def _default_name(source: Source) -> str:
    if source.entry is not None:
        return source.entry.name
    path = re.split(r"[?#]", source.url)[0] if "://" in source.url else source.url
    last = Path(path.rstrip("/")).name
    stem = Path(last).stem if re.search(r"\.[A-Za-z]\w*$", last) else last
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:128] or "generator"


def _keep(
    store: Store, kind: Kind, name: str, fingerprint: str, files: Mapping[str, bytes], origin: dict[str, Any]
) -> Imported:
    folder = f"{kind}s/{name}"
    shape = json.loads(files["config.json"])["inverter" if kind == "encoder" else kind]
    record = {"fingerprint": fingerprint, kind: shape, "origin": origin}
    wrote = keep_folder(store.objects, folder, files, record, last="config.json")
    return Imported(kind, name, store.objects.where(folder), fingerprint, not wrote, origin)
