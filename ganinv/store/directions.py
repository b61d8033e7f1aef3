"""``DirectionStore``: named edits in numbered versions, each bound to the generator it was fitted on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.errors import ConfigError, GeneratorMismatch, StoreError, did_you_mean
from ganinv.store.names import checked_name
from ganinv.store.objects import Objects
from ganinv.store.tensors import parquet_bytes, read_header

if TYPE_CHECKING:
    from ganinv.directions.direction import Direction

SHIPPED = Path(__file__).parents[1] / "directions" / "assets"
"""A folder for each embedded generator, laid out as a store, with the directions that come with it."""
SHIPPED_VERSION = 0
"""What they are called in every store: a store's own versions begin at 1."""


@dataclass(frozen=True)
class DirectionStore:
    """``<root>/directions/<name>/<version>/direction.parquet``; versions count 1, 2, 3, ... and never change.

    A version that should not be used any more gets an object beside it, ``deprecated.json``, as does a whole name.

    Where a store has no direction of a name for a generator, the one that ships with the generator is found, as version 0.
    """

    objects: Objects

    def put(self, direction: Direction) -> int:
        """Store a direction as the next version of its name. Returns the version."""
        name = checked_name("direction", direction.name)
        data = direction_bytes(direction)
        version = max(self._versions(name), default=0) + 1
        while True:
            try:
                self.objects.create(f"directions/{name}/{version}/direction.parquet", data)
                return version
            except FileExistsError:  # somebody else took this number in the meantime
                version += 1

    def get(
        self, name: str, generator: str | None = None, version: int | None = None, *, trust: bool = False
    ) -> Direction:
        """The newest version of a direction, or the newest for one generator, or one version.

        Args:
            generator: fingerprint of the generator it is for; None takes any.
            version: a number, deprecated or not; 0 is the version that ships with a generator. None takes the newest that
                fits and is not deprecated or, if the store has none for that generator, the one that ships.
            trust: with ``generator``, also accept a version whose generator was not verified, if no verified one fits.

        Raises:
            ConfigError: no direction or version of that name, or only deprecated ones.
            GeneratorMismatch: there is one, but for another generator.
        """
        from ganinv.directions.direction import UNVERIFIED, Direction

        versions = self._versions(name)
        if version == SHIPPED_VERSION or (version is None and not versions):
            for arrays, metadata in _shipped(name, generator):
                return Direction.from_record(arrays, metadata)
        self._check_known(name, version, versions)
        versions = versions if version is None else [version]
        stated: list[Direction] = []
        others: dict[str, bool] = {}  # the generators it is for, and whether their weights are known
        reason: str | None = None if version is not None else self._reason(name)
        for candidate in reversed(versions) if reason is None else ():
            if version is None and (own := self._reason(f"{name}/{candidate}")) is not None:
                reason = reason or own
                continue
            arrays, metadata = self._read(name, candidate)
            fingerprint = str(metadata.get("generator_fingerprint"))
            if generator is None or fingerprint == generator != UNVERIFIED:
                return Direction.from_record(arrays, metadata)
            if trust and fingerprint == UNVERIFIED:
                stated.append(Direction.from_record(arrays, metadata))
            others[f"{metadata.get('generator_name', 'unnamed')} ({fingerprint[:12]})"] = fingerprint != UNVERIFIED
        if stated:
            return stated[0]
        if not others:
            ships = f"; {name}@0 is the one that ships" if any(_shipped(name, generator)) else ""
            raise ConfigError(
                f"direction {name!r} is deprecated: {reason}. Use another, or ask for a version by its number "
                f"({name}@{versions[-1]}{ships})"
            )
        if version is None:
            for arrays, metadata in _shipped(name, generator):
                return Direction.from_record(arrays, metadata)
        if not any(others.values()):
            raise GeneratorMismatch(
                f"direction {name!r} was imported for {', '.join(others)} without its weights, so nobody checked that it "
                f"belongs to the generator in use ({str(generator)[:12]}): if you know that it does, name it in `trust`, or "
                "import it again with the generator's weights"
            )
        raise GeneratorMismatch(
            f"direction {name!r} was fitted on generator {', '.join(others)}, not on the one in use "
            f"({str(generator)[:12]}): fit it again on this one, or use the latents of the other"
        )

    def deprecate(self, name: str, reason: str, version: int | None = None) -> None:
        """Mark a version, or a name with all its present and future versions, as not to be used any more.

        It stays readable by its number and does not change. This cannot be undone: store a new version, or use another
        name.

        Raises:
            ConfigError: no reason, no such direction, or it is deprecated already.
        """
        if not reason.strip():
            raise ConfigError(f"say why {name!r} should not be used any more: anyone who uses it reads the reason")
        self._check_known(name, version, self._versions(name))
        where = name if version is None else f"{name}/{version}"
        try:
            self.objects.create(f"directions/{where}/deprecated.json", json.dumps({"reason": reason}).encode())
        except FileExistsError:
            what = f"direction {name!r}" + ("" if version is None else f", version {version},")
            raise ConfigError(f"{what} is deprecated already: {self._reason(where)}") from None

    def list(self, name: str | None = None, *, shipped: bool = False) -> list[dict[str, Any]]:
        """Metadata of every version of every direction, or of one, by name and version.

        Each has its ``version``, the ``report`` of its fit, and ``deprecated``: the reason, or None.

        Args:
            shipped: those that ship with generators too, as version 0; they come first.
        """
        rows = []
        if shipped:
            rows += [{**metadata, "deprecated": self._reason(metadata["name"])} for _, metadata in _shipped(name)]
        for each in self.objects.names("directions") if name is None else [name]:
            whole = self._reason(each)
            for version in self._versions(each):
                reason = whole or self._reason(f"{each}/{version}")
                rows.append({**self._read(each, version)[1], "deprecated": reason})
        return rows

    def _check_known(self, name: str, version: int | None, versions: Sequence[int]) -> None:
        """Refuse a name that the store does not have, or a version that is none of ``versions``."""
        if not versions:
            own = self.objects.names("directions")
            known = sorted({*own, *(str(metadata["name"]) for _, metadata in _shipped())})
            with_generators = [name for name in known if name not in own]
            there = (
                f"there are: {', '.join(own)}"
                if own
                else "the store has none yet: ganinv sample, then ganinv fit, makes them"
            ) + (f"; with a generator come: {', '.join(with_generators)}" if with_generators else "")
            ships = " in this store (the one of this name ships with its generator, and for it alone)"
            hint = ships if name in known else did_you_mean(name, known)
            raise ConfigError(f"unknown direction {name!r}{hint}; {there}")
        if version is not None and version not in versions:
            raise ConfigError(
                f"direction {name!r} has no version {version}; there are: {', '.join(map(str, versions))}"
            )

    def _reason(self, where: str) -> str | None:
        """Why a name, or a version of it, is deprecated."""
        path = f"directions/{where}/deprecated.json"
        data = self.objects.read_if_there(path)
        if data is None:
            return None
        try:
            return str(json.loads(data)["reason"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.objects.where(path)} does not say why ({error}): write it again") from error

    def _versions(self, name: str) -> Sequence[int]:
        found = self.objects.names(f"directions/{checked_name('direction', name)}")
        numbers = sorted(int(version) for version in found if version.isdecimal())
        if self.objects.is_local:  # a folder may be there a moment before its file
            return [n for n in numbers if "direction.parquet" in self.objects.names(f"directions/{name}/{n}")]
        return numbers

    def _read(self, name: str, version: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        path = f"directions/{name}/{version}/direction.parquet"
        data = self.objects.read(path)
        try:
            table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read(use_threads=False)
            header = read_header(table.schema)
            arrays = {
                key: np.array(table[key].combine_chunks().values.to_numpy(zero_copy_only=False)).reshape(shape)
                for key, shape in header["shapes"].items()
            }
            return arrays, {**header["metadata"], "version": version}
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            where = self.objects.where(path)
            raise StoreError(f"{where} is not a direction ({error}): remove it and fit the direction again") from error


def _shipped(
    name: str | None = None, generator: str | None = None
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Records of what ships with generators: of all directions or of one name, for any generator or for one fingerprint."""
    for folder in sorted(SHIPPED.iterdir()) if SHIPPED.is_dir() else ():
        there = DirectionStore(Objects(str(folder)))
        for each in there.objects.names("directions"):
            if name in (None, each):
                arrays, metadata = there._read(each, SHIPPED_VERSION)
                if generator in (None, metadata["generator_fingerprint"]):
                    yield arrays, metadata


def direction_bytes(direction: Direction) -> bytes:
    """A direction as its object in a store: one row; every array is a flat list column, its shape is in the header."""
    arrays, metadata = direction.to_record()
    columns = {
        key: pa.array([value.reshape(-1)], pa.list_(pa.from_numpy_dtype(value.dtype)))
        for key, value in sorted(arrays.items())
    }
    shapes = {key: list(value.shape) for key, value in arrays.items()}
    said = {key: value for key, value in metadata.items() if key != "version"}
    return parquet_bytes(pa.table(columns), {"metadata": said, "shapes": shapes})
