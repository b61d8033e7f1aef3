from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.directions import shipping
from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.files import open_generator
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


@pytest.mark.seconds
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
    with pytest.raises(ConfigError, match="the store has none yet: ganinv sample, then ganinv fit, makes them"):
        store.directions.get("smile", generator="aaa111")
    store.directions.put(smile())
    with pytest.raises(ConfigError, match=r"unknown direction 'smiel', did you mean 'smile'\?"):
        store.directions.get("smiel")
    with pytest.raises(ConfigError, match="no version 7; there are: 1"):
        store.directions.get("smile", version=7)
    with pytest.raises(ConfigError, match=r"use store\.directions"):
        store.collection("directions", "smile")


@pytest.mark.seconds
def test_a_deprecated_version_is_left_out_unless_asked_for_by_number(store: Store) -> None:
    for unit in (1.0, 2.0, 3.0):
        store.directions.put(smile(unit=unit))
    store.directions.deprecate("smile", "fitted on mislabelled samples", version=3)
    assert store.directions.get("smile").version == 2
    assert store.directions.get("smile", generator="aaa111").version == 2
    assert store.directions.get("smile", version=3).unit == 3.0
    assert [row["deprecated"] for row in store.directions.list()] == [None, None, "fitted on mislabelled samples"]
    assert [row["version"] for row in store.directions.list("smile")] == [1, 2, 3]
    assert store.directions.list("frown") == []
    assert store.directions.put(smile(unit=4.0)) == 4
    assert store.directions.get("smile").version == 4
    with pytest.raises(ConfigError, match="version 3, is deprecated already: fitted on mislabelled samples"):
        store.directions.deprecate("smile", "again", version=3)


def test_a_deprecated_name_has_no_usable_version_now_or_later(store: Store) -> None:
    store.directions.put(smile())
    store.directions.deprecate("smile", "use grin")
    store.directions.put(smile())
    for generator in (None, "aaa111"):
        with pytest.raises(ConfigError, match=r"'smile' is deprecated: use grin.*smile@2"):
            store.directions.get("smile", generator=generator)
    assert store.directions.get("smile", version=2).version == 2
    assert [row["deprecated"] for row in store.directions.list()] == ["use grin", "use grin"]
    with pytest.raises(ConfigError, match="say why"):
        store.directions.deprecate("smile", " ")
    with pytest.raises(ConfigError, match="no version 9"):
        store.directions.deprecate("smile", "x", version=9)
    with pytest.raises(ConfigError, match="unknown direction 'frown'"):
        store.directions.deprecate("frown", "x")


def test_all_versions_deprecated_one_by_one(store: Store) -> None:
    for _ in range(2):
        store.directions.put(smile())
    store.directions.deprecate("smile", "old", version=1)
    store.directions.deprecate("smile", "older", version=2)
    with pytest.raises(ConfigError, match="'smile' is deprecated: older"):
        store.directions.get("smile")


def test_a_stated_generator_is_never_a_match_unless_trusted(store: Store) -> None:
    store.directions.put(smile(UNVERIFIED))
    for fingerprint in ("aaa111", UNVERIFIED):
        with pytest.raises(GeneratorMismatch, match=r"imported for toy faces \(unverified\) without its weights"):
            store.directions.get("smile", generator=fingerprint)
        assert store.directions.get("smile", generator=fingerprint, trust=True).version == 1
    store.directions.put(smile("aaa111"))
    store.directions.put(smile(UNVERIFIED))
    assert store.directions.get("smile", generator="aaa111", trust=True).version == 2  # one that is known wins
    with pytest.raises(GeneratorMismatch, match="fitted on generator"):
        store.directions.get("smile", generator="bbb")


def test_imported_precision_and_styles_survive_the_store(store: Store) -> None:
    vector = np.random.default_rng(0).normal(size=6)
    kept = {"mean": None, "layers": None, "vector": vector, "dtype": "float64", "space": "s"}
    store.directions.put(replace(smile(), **kept, style_layers=(("convs.0", 4), ("torgbs.0", 2))))  # type: ignore[arg-type]
    back = store.directions.get("smile")
    assert np.array_equal(back.vector, vector)
    assert (back.dtype, back.style_layers) == ("float64", (("convs.0", 4), ("torgbs.0", 2)))


def test_where_a_store_has_none_the_generators_own_is_found(store: Store) -> None:
    """As version 0, for that generator alone; what the store has goes first, and what it deprecates stays away."""
    own = open_generator().fingerprint
    shipped = store.directions.get("smile", own)
    assert (shipped.version, shipped.generator_fingerprint, shipped.report["shipped"]["count"]) == (0, own, 20_000)
    assert shipped.report["calibration"]["score_std"] > 0
    assert np.array_equal(store.directions.get("smile", version=0).vector, shipped.vector)
    assert store.directions.list() == []
    assert {row["name"] for row in store.directions.list(shipped=True)} >= {"smile", "age", "glasses", "gender", "yaw"}
    with pytest.raises(ConfigError, match=r"unknown direction 'smile' in this store \(the one of this name ships with"):
        store.directions.get("smile", "bbb")
    with pytest.raises(
        ConfigError, match=r"unknown direction 'smiel', did you mean 'smile'.*with a generator come: age, .*smile"
    ):
        store.directions.get("smiel", own)
    store.directions.put(smile("bbb"))
    assert store.directions.get("smile", own).version == 0, "the store's is of another generator"
    store.directions.put(smile(own))
    assert store.directions.get("smile", own).version == 2
    store.directions.deprecate("smile", "use grin")
    with pytest.raises(ConfigError, match=r"is deprecated: use grin.*\(smile@2; smile@0 is the one that ships\)"):
        store.directions.get("smile", own)
    assert store.directions.get("smile", version=0).version == 0


def test_what_ships_is_of_the_generator_and_the_labeller_that_ship() -> None:
    """Else: ``python -m benchmarks.assets make --only shipped-directions``."""
    assert shipping.is_current(open_generator())
