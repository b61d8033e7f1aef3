from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.store import Store


def smile(fingerprint: str = "aaa111", **fields: object) -> Direction:
    vector = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    kept = {"layers": (1, 3), "mean": np.ones(4), "report": {"auc": 0.9}, "intercept": 0.25, **fields}
    return Direction("smile", vector, "w+", "toy faces", fingerprint, "interfacegan", **kept)  # type: ignore[arg-type]


def test_a_direction_survives_the_store(store: Store) -> None:
    assert store.directions.list() == []
    assert store.directions.put(smile()) == 1
    back = store.directions.get("smile", generator="aaa111")
    assert back.version == 1
    assert replace(back, version=None).to_record()[1] == smile().to_record()[1]
    assert back.mean is not None
    np.testing.assert_array_equal(back.vector, smile().vector)
    np.testing.assert_array_equal(back.mean, np.ones(4, np.float32))


def test_versions_count_and_never_change(store: Store) -> None:
    versions = [store.directions.put(smile(f, unit=u)) for f, u in (("aaa", 1.0), ("bbb", 2.0), ("aaa", 3.0))]
    assert versions == [1, 2, 3]
    assert store.directions.get("smile").unit == 3.0
    assert store.directions.get("smile", generator="bbb").unit == 2.0
    assert store.directions.get("smile", version=1).unit == 1.0
    assert store.directions.put(store.directions.get("smile", version=1)) == 4
    assert [(d["name"], d["version"], d["unit"]) for d in store.directions.list()] == [
        ("smile", 1, 1.0),
        ("smile", 2, 2.0),
        ("smile", 3, 3.0),
        ("smile", 4, 1.0),
    ]


def test_writers_at_once_get_versions_of_their_own(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda _: store.directions.put(smile()), range(6)))
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]


def test_another_generator_is_refused_in_words(store: Store) -> None:
    store.directions.put(smile("aaa111222333444"))
    with pytest.raises(GeneratorMismatch, match=r"fitted on generator toy faces \(aaa111222333\).*\(bbb\)"):
        store.directions.get("smile", generator="bbb")
    with pytest.raises(GeneratorMismatch):
        store.directions.get("smile", generator="bbb", version=1)


def test_unknown_names_and_versions(store: Store) -> None:
    with pytest.raises(ConfigError, match="there are: none yet"):
        store.directions.get("smile")
    store.directions.put(smile())
    with pytest.raises(ConfigError, match=r"unknown direction 'smiel', did you mean 'smile'\?"):
        store.directions.get("smiel")
    with pytest.raises(ConfigError, match="no version 7; there are: 1"):
        store.directions.get("smile", version=7)
    with pytest.raises(ConfigError, match=r"use store\.directions"):
        store.collection("directions", "smile")
