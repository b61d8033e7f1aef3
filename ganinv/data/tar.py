"""Images in tar shards: each shard is indexed once, then every image is one range read. Nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from ganinv.data.folder import check_unique, ids_of, is_image
from ganinv.data.source import Place, SourceRef, clean_id, reading
from ganinv.errors import DataError


def tar_sources(place: Place, shards: Sequence[str]) -> dict[str, SourceRef]:
    """One source for each image in uncompressed tar files.

    An id is the member's path without extension; where two shards have the same, the shard's name goes before it.
    """
    found = [(shard, image_id, source) for shard in shards for image_id, source in _index(place, shard).items()]
    count = Counter(image_id for _, image_id, _ in found)
    ids = [
        image_id if count[image_id] == 1 else f"{clean_id(PurePosixPath(shard).stem)}/{image_id}"
        for shard, image_id, _ in found
    ]
    check_unique(ids, "give the shards names of their own")
    return {image_id: source for image_id, (_, _, source) in zip(ids, found, strict=True)}


def _index(place: Place, shard: str) -> dict[str, SourceRef]:
    uri = place.uri(shard)
    members: dict[str, SourceRef] = {}
    try:
        with reading(uri), place.fs.open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse() and is_image(member.name) and not _hidden(member.name):
                    # A later member of the same name replaces an earlier one, as in unpacking.
                    members[member.name] = SourceRef(
                        f"{uri}#{clean_id(member.name)}", shard, offset=member.offset_data, length=member.size
                    )
    except DataError as error:
        if isinstance(error.__cause__, tarfile.TarError):
            raise DataError(
                f"{uri} is not a whole, uncompressed tar file ({error.__cause__}): copy it again, or unpack it if it "
                "is compressed"
            ) from error
        raise
    ids = ids_of({name: clean_id(name.removeprefix("./")) for name in members})
    return {ids[name]: source for name, source in members.items()}


def _hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")  # macOS adds a ._ file to each file
