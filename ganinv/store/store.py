"""``Store``: a URL root that holds everything a run reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ganinv.errors import ConfigError
from ganinv.store.collection import Collection
from ganinv.store.directions import DirectionStore
from ganinv.store.names import checked_name, no_secrets
from ganinv.store.objects import Objects


def open_store(url: str, **storage_options: Any) -> Store:
    """The store at a folder or fsspec URL (``s3://bucket/root``, ``gs://``, ``az://``, ``memory://root``).

    Nothing is read or made yet. A relative path is made absolute, so that workers elsewhere on the machine agree.

    Args:
        storage_options: what fsspec's file system takes, such as ``endpoint_url=...`` or ``anon=True`` for S3.
    """
    if not str(url).strip():
        raise ConfigError(
            "the store has no name: expected a folder or a URL such as s3://bucket/root, got an empty text"
        )
    no_secrets(str(url), "the store")
    objects = Objects(str(url), dict(storage_options))
    objects.is_local  # noqa: B018  # an unknown protocol or option is an error here, not in the first worker
    fs, root = fsspec.url_to_fs(str(url), **storage_options)
    plain = root if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(root)
    return Store(plain.rstrip("/") or "/", dict(storage_options))


@dataclass(frozen=True)
class Store:
    """Collections and directions under one URL. Holds no connection: pickle it, or make it from url and options."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def objects(self) -> Objects:
        """Access to the stored bytes."""
        return Objects(self.url, self.options)

    def collection(self, kind: str, name: str) -> Collection:
        """One table, whether it exists yet or not."""
        if kind == "directions":
            raise ConfigError("directions are not a collection: use store.directions")
        return Collection(self.objects, kind, name)

    def list(self, kind: str) -> list[str]:
        """Names of the collections of a kind, sorted. A new store has none; a missing bucket is a ``StoreError``."""
        return self.objects.names(checked_name("kind", kind))

    @property
    def samples(self) -> CollectionsOfKind:
        return CollectionsOfKind(self, "samples")

    @property
    def latents(self) -> CollectionsOfKind:
        return CollectionsOfKind(self, "latents")

    @property
    def edits(self) -> CollectionsOfKind:
        return CollectionsOfKind(self, "edits")

    @property
    def metrics(self) -> CollectionsOfKind:
        return CollectionsOfKind(self, "metrics")

    @property
    def directions(self) -> DirectionStore:
        return DirectionStore(self.objects)


@dataclass(frozen=True)
class CollectionsOfKind:
    """The collections of one kind: ``store.latents["portraits"]``, ``"portraits" in store.latents``."""

    store: Store
    kind: str

    def __getitem__(self, name: str) -> Collection:
        return self.store.collection(self.kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.store.list(self.kind))

    def __contains__(self, name: object) -> bool:
        return name in self.store.list(self.kind)
