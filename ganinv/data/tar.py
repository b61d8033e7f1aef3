"""Images in tar shards: each shard is indexed once, then every image is one range read. Nothing is unpacked."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ganinv.data.identity import file_key, member_key
from ganinv.data.kinds import HEAD, begins_as_image, is_image, says_nothing, suffix_of
from ganinv.data.left_out import LeftOut
from ganinv.data.names import clean_id
from ganinv.data.source import Place, SourceRef, reading
from ganinv.data.walk import Listed
from ganinv.errors import DataError, Unavailable

_AGAIN = "copy it again, or unpack it if it is compressed"


def tar_sources(
    place: Place, files: Mapping[str, Listed], shards: Sequence[str], base: str, left: LeftOut
) -> Iterator[SourceRef]:
    """One source for each image in uncompressed tar files, and one with a ``fault`` for each shard that cannot be read to its
    end. What comes before the fault is there."""
    for shard, uri in zip(shards, place.uris(shards), strict=True):
        listed, key = files[shard], file_key(shard, base)
        members: dict[str, SourceRef] = {}
        fault = _read(place, shard, uri, key, listed, members, left)
        if not members and fault is None:
            left.add(".tar", "no image is in them", clean_id(shard))
        yield from members.values()
        if fault is not None:
            yield SourceRef(uri, shard, length=listed.size, key=key, version=listed.version, fault=clean_id(fault))


def _read(
    place: Place, shard: str, uri: str, key: str, listed: Listed, members: dict[str, SourceRef], left: LeftOut
) -> str | None:
    """Put the images of a shard into ``members``; what is wrong with it, or None."""
    if not listed.size:
        return f"the tar file has no bytes: {_AGAIN}"
    every: dict[str, tarfile.TarInfo] = {}
    others: list[tuple[str, str, str]] = []
    cut = None
    try:
        with reading(uri), place.fs.open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                here = every.get(_target(member), member)
                if member.offset_data + (member.size if member.isreg() else 0) > listed.size:
                    cut = f"the tar file ends within {clean_id(member.name)}, at byte {listed.size}: {_AGAIN}"
                    break
                every[member.name] = here
                why = _no_image(tar, member, here)
                if why is not None:
                    others.append((*why, f"{uri}#{clean_id(member.name)}"))
                    continue
                # A later member of the same name replaces an earlier one, as in unpacking.
                members[member.name] = SourceRef(
                    f"{uri}#{clean_id(member.name)}",
                    shard,
                    offset=here.offset_data,
                    length=here.size,
                    key=member_key(key, member.name),
                    version=listed.version,
                )
            cut = cut or _not_the_end(file, tar.offset)
    except Unavailable:
        raise
    except DataError as error:
        cause = error.__cause__
        what = f"not a whole, uncompressed tar file ({cause})" if isinstance(cause, tarfile.TarError) else str(error)
        cut = f"{what}: {_AGAIN}"
    for what, why_not, example in others:
        left.add(what, why_not, example)
    return cut


def _no_image(tar: tarfile.TarFile, member: tarfile.TarInfo, here: tarfile.TarInfo) -> tuple[str, str] | None:
    """(what it is, why it is left out), or None for an image."""
    if PurePosixPath(member.name).name.startswith("."):
        return "hidden files", "their names begin with a dot"  # macOS adds a ._ file to each file
    if not here.isreg():
        return "links and devices", "what they lead to is not in the shard"
    if here.issparse():
        return "sparse files", "a shard of plain files is read"
    if is_image(member.name):
        return None
    if says_nothing(member.name):
        opened: Any = tar.extractfile(here)
        if begins_as_image(opened.read(HEAD)):
            return None
    return suffix_of(member.name) or "without a suffix", "no images by their names or first bytes"


def _target(member: tarfile.TarInfo) -> str:
    """The name that a link refers to; for anything else, a name that is not in the archive yet."""
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    return member.linkname if member.islnk() else ""


def _not_the_end(file: Any, offset: int) -> str | None:
    """What is wrong with the place where the members end: Python takes a cut or damaged header for the end."""
    file.seek(offset)
    rest = file.read(2**16)
    if len(rest) < tarfile.BLOCKSIZE:
        return f"the tar file ends without its end mark, at byte {offset + len(rest)}: {_AGAIN}"
    if rest[: tarfile.BLOCKSIZE].strip(b"\0"):
        return f"the tar file is damaged at byte {offset}, and what follows is not read: {_AGAIN}"
    if rest.strip(b"\0"):
        return f"the tar file continues after its end mark, at byte {offset}, as when two are joined: store them apart"
    return None
