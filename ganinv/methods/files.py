"""Open and save inverters: our folder (``config.json`` and safetensors), and published checkpoints.

An inverter belongs to one generator. Other inverters that it needs are referenced by name if they ship with the package, and
included in its folder otherwise, so that a folder can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from safetensors.torch import save

from ganinv.config import config_names
from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.files import WeightType, load_into, pack_tensors, put_file
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.registry import INVERTERS, inverter_config
from ganinv.reading.fetch import path_kind
from ganinv.reading.start import without_random_start
from ganinv.store.store import Store

ASSETS = Path(__file__).parent / "assets"
FORMAT = "ganinv-inverter-2"

Needed = Mapping[str, "str | Inverter"]
"""Role -> an inverter, or where it is."""


def open_inverter(
    uri: str,
    *,
    generator: Generator,
    store: Store | None = None,
    needed: Needed | None = None,
    default_type: str | None = None,
) -> Inverter:
    """Open an inverter, frozen, on the generator's device: ``inverter(images [B, C, R, R] in [-1, 1]) -> Code``.

    Args:
        uri: a name: of ``<store>/encoders/<name>``, or of one that ships with the embedded generator (``e4e``); or a
            folder in our format; or a published checkpoint of pSp, e4e, ReStyle, HyperStyle, HFGI, PadInv,
            StyleFeatureEditor or In-Domain inversion (path or any fsspec URL).
        needed: inverters that it depends on, by role, if its folder or file does not contain them (HyperStyle's ``w_encoder``).
        default_type: the published class of a checkpoint whose options do not name it.

    Raises:
        GeneratorMismatch: it was trained for another generator.
        WeightsRefused: no inverter there, one of an unknown kind, or a damaged file.
    """
    folder = _find(uri, generator, store)
    if path_kind(folder) == "file":
        from ganinv.methods.published.checkpoints import open_encoder_checkpoint  # and with it every published method

        checkpoint = open_encoder_checkpoint(folder, default_type=default_type, generator=generator)
        roles = _opened_roles(needed, generator, store, checkpoint.expects)
        opened = checkpoint.inverter(generator, needed=roles)
    else:
        opened = _open_folder(folder, uri, generator, store, _opened_roles(needed, generator, store))
    opened.uri = uri if folder == str(ASSETS / uri) else folder
    return opened.to(generator.device).eval().requires_grad_(False)


def _opened_roles(
    needed: Needed | None, generator: Generator, store: Store | None, expects: Mapping[str, str] | None = None
) -> dict[str, Inverter]:
    return {
        role: open_inverter(given, generator=generator, store=store, default_type=(expects or {}).get(role))
        if isinstance(given, str)
        else given
        for role, given in (needed or {}).items()
    }


def save_inverter(
    inverter: Inverter,
    uri: str,
    *,
    generator: Generator,
    dtype: WeightType = "float32",
    extra: dict[str, Any] | None = None,
) -> None:
    """Write an inverter's folder, bound to ``generator`` by its fingerprint.

    Args:
        dtype: of the weights in the file. The inverter read back has the rounded weights' fingerprint.
        extra: more keys for its ``config.json``.
    """
    fs, path = fsspec.url_to_fs(uri.rstrip("/"))
    fs.makedirs(path, exist_ok=True)
    for name, data in pack_inverter(inverter, generator=generator, dtype=dtype, extra=extra).items():
        put_file(fs, f"{path}/{name}", data)


def pack_inverter(
    inverter: Inverter, *, generator: Generator, dtype: WeightType = "float32", extra: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """The files of our folder by name; ``config.json``, without which it is not a folder of ours, is the last."""
    files: dict[str, bytes] = {}
    meta = {
        "format": FORMAT,
        "generator_name": generator.name,
        "generator_fingerprint": generator.fingerprint,
        **_described(inverter, "inverter", files, dtype),
        **(extra or {}),
    }
    return files | {"config.json": json.dumps(meta, indent=2).encode()}


def is_shipped(name: str) -> bool:
    """Whether an inverter of this name is part of the package."""
    return bool(name) and "/" not in name and (ASSETS / name / "config.json").is_file()


def _described(inverter: Inverter, name: str, files: dict[str, bytes], dtype: WeightType) -> dict[str, Any]:
    """Shape and needs of one inverter; its weights go into ``files``."""
    files[f"{name}.safetensors"] = save(pack_tensors(inverter.state_dict(), dtype))
    needs: dict[str, Any] = {}
    for role, needed in inverter.needed.items():
        of_role = (
            {"name": needed.uri} if is_shipped(needed.uri) else _described(needed, f"{name}.{role}", files, "float32")
        )
        needs[role] = {"fingerprint": needed.fingerprint} | of_role
    return {"inverter": inverter.cfg.model_dump(mode="json"), "needs": needs}


def _find(uri: str, generator: Generator, store: Store | None) -> str:
    """Where an inverter is: a name is looked for in the store, then among those that ship."""
    shipped = is_shipped(uri)
    if store is not None and "/" not in uri:
        data = store.objects.read_if_there(f"encoders/{uri}/config.json")
        if data is not None and (not shipped or _generator_of(data) == generator.fingerprint):
            return store.objects.where(f"encoders/{uri}")
    return str(ASSETS / uri) if shipped else uri.rstrip("/")


def inverter_described(uri: str, *, generator: Generator, store: Store | None = None) -> dict[str, Any] | None:
    """The record in an inverter's folder (``generator_fingerprint``, ``inverter`` with its ``kind``, ``measured``), without
    opening it; None if there is no folder of ours, as with published checkpoints.

    Args:
        uri: as of :func:`open_inverter`.
    """
    fs, path = fsspec.url_to_fs(_find(uri, generator, store))
    try:
        meta = json.loads(fs.cat_file(f"{path}/config.json"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) else None


def _generator_of(data: bytes) -> str | None:
    try:
        return str(json.loads(data).get("generator_fingerprint"))
    except (ValueError, AttributeError):
        return None


def _open_folder(
    folder: str, uri: str, generator: Generator, store: Store | None, given: Mapping[str, Inverter]
) -> Inverter:
    fs, path = fsspec.url_to_fs(folder)
    try:
        meta = json.loads(fs.cat_file(f"{path}/config.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        recipes = [name for name in config_names("training") if name.endswith(f"-{uri}")]
        own = f"{generator.name}-{uri}"
        recipe = own if own in recipes else next(iter(recipes), "RECIPE")
        raise WeightsRefused(
            f"no encoder at {uri!r}: expected a name of the store, a published checkpoint, or a folder with config.json and "
            f"inverter.safetensors; train one with: ganinv train {recipe}"
        ) from error
    if meta.get("format") != FORMAT:
        raise WeightsRefused(f"{folder}: format {meta.get('format')!r} is not read here, expected {FORMAT}")
    if meta.get("generator_fingerprint") != generator.fingerprint:
        raise GeneratorMismatch(
            f"encoder {uri!r} was trained for generator {meta.get('generator_name')!r} "
            f"({str(meta.get('generator_fingerprint'))[:12]}), not for {generator.name!r} ({generator.fingerprint[:12]}); "
            "train one for this generator with: ganinv train, or take a method that needs none, such as pti-w"
        )
    return _opened(meta, "inverter", folder, generator, store, given)


def _opened(
    meta: Mapping[str, Any],
    name: str,
    folder: str,
    generator: Generator,
    store: Store | None,
    given: Mapping[str, Inverter],
) -> Inverter:
    needed = dict(given)
    for role, of_role in (meta.get("needs") or {}).items():
        if role in needed:
            continue
        if "name" in of_role:
            needed[role] = open_inverter(str(of_role["name"]), generator=generator, store=store)
        else:
            needed[role] = _opened(of_role, f"{name}.{role}", folder, generator, store, {})
        if needed[role].fingerprint != of_role.get("fingerprint"):
            raise WeightsRefused(
                f"{folder} was trained with another {role} ({str(of_role.get('fingerprint'))[:12]}) than the one that is "
                f"there now ({needed[role].fingerprint[:12]}): give the right one with --needed {role}=URI"
            )
    config = inverter_config(meta.get("inverter"), f"{folder}/config.json")
    with without_random_start():
        inverter = INVERTERS[config.kind](config, generator, needed)
    load_into(inverter, f"{folder}/{name}.safetensors")
    return inverter.to(generator.device).eval().requires_grad_(False)
