"""A folder of files under one name, written whole, once, by the first that comes: imported weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ganinv.errors import RunConflict, StoreError
from ganinv.store.objects import Objects

CLAIM = "import.json"


def keep_folder(
    objects: Objects, folder: str, files: Mapping[str, bytes], record: Mapping[str, Any], *, last: str
) -> list[str]:
    """Write ``files`` into ``folder``. A run that was killed is continued; a second run finds everything there.

    ``import.json`` is created exclusively and first: with the hashes of the files it claims the name for them. ``last``
    names the file without which a reader does not take the folder for one; it is written when all others are there. If the
    first file cannot be written, the claim is withdrawn, so that the name is free again.

    Args:
        record: kept in the claim. ``origin`` and the contents of ``last`` may differ between two runs (the same weights
            may come from elsewhere), every other entry must be equal. The message of a
            refusal has ``fingerprint`` and ``origin["uri"]``.

    Returns:
        Names of the files that were written now.

    Raises:
        RunConflict: other content has this name.
        StoreError: the storage fails, or ``import.json`` is damaged.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != last}
    claim = json.loads(json.dumps({"format": "ganinv-import-1", **record, "files": hashes}))
    there = objects.names(folder)  # before the claim is read: a writer has claimed the folder before it writes
    claimed = _claim(objects, folder, claim, there)
    missing = sorted((name for name in files if name not in there), key=lambda name: name == last)
    for name in missing:
        try:
            objects.put(f"{folder}/{name}", files[name])
        except StoreError:
            if claimed:
                _withdraw(objects, folder)
            raise
    return missing


def _withdraw(objects: Objects, folder: str) -> None:
    """Remove a claim that stands for nothing: neither this import nor another of the same weights has written a file."""
    with suppress(StoreError):  # the error that ended the import is the one to be told
        if objects.names(folder) == [CLAIM]:
            objects.remove(f"{folder}/{CLAIM}")
            objects.remove_folder(folder)


def _claim(objects: Objects, folder: str, claim: dict[str, Any], there: list[str]) -> bool:
    """Whether the name was claimed now; False if it was before, for the same content."""
    path, where = f"{folder}/{CLAIM}", objects.where(folder)
    old = objects.read_if_there(path)
    if old is None:
        if there:
            raise RunConflict(
                f"{where} holds something that was not imported ({', '.join(there[:4])}): choose another name"
            )
        try:
            objects.create(path, json.dumps(claim, indent=1).encode())
            return True
        except FileExistsError:  # somebody was first by a moment
            old = objects.read(path)
    try:
        was = json.loads(old)
        told = f"{was['fingerprint'][:12]} from {was['origin'].get('uri')}"
        differing = [key for key in {*was, *claim} if key != "origin" and was.get(key) != claim.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{objects.where(path)} is not the record of an import: remove that folder") from error
    if differing:
        raise RunConflict(
            f"{where} holds other weights already ({told}); these are {claim['fingerprint'][:12]}, and differ in "
            f"{', '.join(sorted(differing))}. Choose another name, or remove that folder"
        )
    return False
