"""``DirectionStore``: named edits in numbered versions, each bound to the generator it was fitted on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ganinv.config import _nearest
from ganinv.errors import ConfigError, GeneratorMismatch, StoreError
from ganinv.store.names import checked_name
from ganinv.store.objects import Objects
from ganinv.store.tensors import parquet_bytes, read_header

if TYPE_CHECKING:
    from ganinv.directions.direction import Direction


@dataclass(frozen=True)
class DirectionStore:
    """``<root>/directions/<name>/<version>/direction.parquet``; versions count 1, 2, 3, ... and never change."""

    objects: Objects

    def put(self, direction: Direction) -> int:
        """Store a direction as the next version of its name; the version."""
        arrays, metadata = direction.to_record()
        name = checked_name("direction", str(metadata["name"]))
        data = _to_parquet(arrays, {key: value for key, value in metadata.items() if key != "version"})
        version = max(self._versions(name), default=0) + 1
        while True:
            try:
                self.objects.create(f"directions/{name}/{version}/direction.parquet", data)
                return version
            except FileExistsError:  # somebody else took this number in the meantime
                version += 1

    def get(self, name: str, generator: str | None = None, version: int | None = None) -> Direction:
        """The newest version of a direction, or the newest for one generator, or one version.

        Args:
            generator: fingerprint of the generator it is for; None takes any.
            version: a number; None takes the newest that fits.

        Raises:
            ConfigError: no direction or version of that name.
            GeneratorMismatch: there is one, but for another generator.
        """
        from ganinv.directions.direction import Direction

        versions = self._versions(name)
        if not versions:
            known = self.objects.names("directions")
            raise ConfigError(
                f"unknown direction {name!r}{_nearest(name, known)}; there are: {', '.join(known) or 'none yet'}"
            )
        if version is not None and version not in versions:
            raise ConfigError(
                f"direction {name!r} has no version {version}; there are: {', '.join(map(str, versions))}"
            )
        others: list[str] = []
        for candidate in [version] if version is not None else reversed(versions):
            arrays, metadata = self._read(name, candidate)
            if generator is None or metadata.get("generator_fingerprint") == generator:
                return Direction.from_record(arrays, metadata)
            others.append(
                f"{metadata.get('generator_name', 'unnamed')} ({str(metadata.get('generator_fingerprint'))[:12]})"
            )
        raise GeneratorMismatch(
            f"direction {name!r} was fitted on generator {', '.join(dict.fromkeys(others))}, not on the one in use "
            f"({str(generator)[:12]}): fit it again on this one, or use the latents of the other"
        )

    def list(self) -> list[dict[str, Any]]:
        """Metadata of every version of every direction, with its ``version``, by name and version."""
        return [
            self._read(name, version)[1]
            for name in self.objects.names("directions")
            for version in self._versions(name)
        ]

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
            table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
            header = read_header(table.schema)
            arrays = {
                key: np.array(table[key].combine_chunks().values.to_numpy(zero_copy_only=False)).reshape(shape)
                for key, shape in header["shapes"].items()
            }
            return arrays, {**header["metadata"], "version": version}
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            where = self.objects.where(path)
            raise StoreError(f"{where} is not a direction ({error}): remove it and fit the direction again") from error


def _to_parquet(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bytes:
    """One row; every array is a flat list column, its shape stands in the header."""
    columns = {
        key: pa.array([value.reshape(-1)], pa.list_(pa.from_numpy_dtype(value.dtype)))
        for key, value in sorted(arrays.items())
    }
    shapes = {key: list(value.shape) for key, value in arrays.items()}
    return parquet_bytes(pa.table(columns), {"metadata": dict(metadata), "shapes": shapes})
