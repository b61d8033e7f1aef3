"""What is exported is what was imported, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.directions.direction import Direction
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.exporting import export_direction, export_directions
from ganinv.directions.exchange.importing import import_directions
from ganinv.directions.fitting.ganspace import GanSpaceConfig, fit_ganspace
from ganinv.errors import ConfigError, DataError, StoreError

FFHQ = DeclaredGenerator("stylegan2-ffhq", 1024)
D = 512


def vector(seed: int = 0, *shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape or (D,)).astype(dtype)


def direction(v: np.ndarray, **more: object) -> Direction:
    given: dict = {"space": "w" if v.ndim == 1 else "w+", "dtype": str(v.dtype)}
    return Direction("age", v, generator_name="g", generator_fingerprint="f" * 64, method="test", **{**given, **more})


def read(path: Path) -> np.ndarray:
    """As anybody reads such a file."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True).numpy()
    loaded = np.load(path, allow_pickle=False)
    return loaded if path.suffix == ".npy" else loaded["direction"]


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".npz"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("form", "shape"),
    [("vector", (D,)), ("row", (1, D)), ("rows", (18, D)), ("batch", (1, 18, D)), ("flat", (1, 18 * D))],
)
def test_round_trips(tmp_path: Path, suffix: str, dtype: str, form: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / f"age{suffix}"
    v = vector(dtype=dtype)
    assert export_direction(direction(v), str(path), form=form, num_ws=18) == shape  # type: ignore[arg-type]
    array = read(path)
    assert (array.shape, str(array.dtype)) == (shape, dtype)
    (back,) = import_directions(str(path), FFHQ, space="w")
    assert np.array_equal(back.vector, v)
    assert back.dtype == dtype
    if form not in ("vector", "row"):
        rows = vector(1, 18, D, dtype=dtype)
        export_direction(direction(rows), str(path), form=form)  # type: ignore[arg-type]
        assert np.array_equal(read(path).reshape(18, D), rows)
        (back,) = import_directions(str(path), FFHQ)
        assert np.array_equal(back.vector, rows)


def test_every_published_file_comes_out_as_it_came_in(shared: Path, tmp_path: Path) -> None:
    for name, form in (
        ("interfacegan/stylegan_ffhq_age_w_boundary.npy", "row"),
        ("chunkmogrify/empirical_glasses.npy", "rows"),
        ("e4e/pose.pt", "batch"),
        ("stylegan-nada/beard.pt", "row"),
    ):
        source = shared / "data/community-directions" / name
        (d,) = import_directions(str(source), FFHQ, space="w")
        out = tmp_path / source.name
        export_direction(d, str(out), form=form)  # type: ignore[arg-type]
        original = np.load(source) if out.suffix == ".npy" else torch.load(source, "cpu", weights_only=True).numpy()
        again = read(out)
        assert (again.dtype, again.shape) == (original.dtype, original.shape)
        assert again.tobytes() == original.tobytes()


def test_a_flat_boundary_of_w_plus_comes_out_as_it_came_in(tmp_path: Path) -> None:
    """docs/methods/interfacegan.md, check 8: (1, 9216), norm 1 over all 18 rows, row norms that differ."""
    flat = vector(0, 1, 18 * D) * np.repeat(np.linspace(0.5, 2, 18, dtype=np.float32), D)
    flat /= np.linalg.norm(flat)
    np.save(tmp_path / "Smiling_boundary.npy", flat)
    (found,) = import_directions(str(tmp_path / "Smiling_boundary.npy"), FFHQ)
    assert (found.space, found.vector.shape) == ("w+", (18, D))
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-6)
    assert found.report["source"]["norm"] == pytest.approx(1, abs=1e-6)
    assert np.ptp(np.linalg.norm(found.vector, axis=1)) > 0.1
    export_direction(found, str(tmp_path / "again.npy"), form="flat")
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "Smiling_boundary.npy").read_bytes()


@pytest.mark.parametrize("name", ["e4e/ffhq_pca.pt", "e4e/cars_pca.pt", "hyperinverter/church_pca.pt"])
def test_ganspace_components_in_the_e4e_layout(shared: Path, tmp_path: Path, name: str) -> None:
    """docs/methods/ganspace.md, check 3."""
    source = shared / "data/community-directions" / name
    generator = DeclaredGenerator("g", 256 if "church" in name else 1024)
    found = import_directions(str(source), generator)
    assert export_directions(found[:3], str(tmp_path / "three.pt")) == ["mean", "comp", "std"]
    assert export_directions(found[::-1], str(tmp_path / "out.pt")) == ["mean", "comp", "std"]
    want, got = (torch.load(p, "cpu", weights_only=True) for p in (source, tmp_path / "out.pt"))
    for key in ("mean", "comp", "std"):
        assert want[key].shape == got[key].shape
        assert torch.equal(want[key], got[key])
    # By way of the official layout, too, and back.
    export_directions(found, str(tmp_path / "out.npz"))
    official = np.load(tmp_path / "out.npz")
    for key in ("mean", "comp", "std"):
        array = official[{"mean": "lat_mean", "comp": "lat_comp", "std": "lat_stdev"}[key]]
        assert array.tobytes() == want[key].numpy().tobytes()
    export_directions(import_directions(str(tmp_path / "out.npz"), generator), str(tmp_path / "back.pt"))
    assert all(torch.equal(want[k], v) for k, v in torch.load(tmp_path / "back.pt", weights_only=True).items())


def test_ganspace_components_in_the_official_layout(tmp_path: Path) -> None:
    comp, mean = vector(0, 6, 1, D), vector(1, 1, D)
    arrays = {"act_comp": comp, "act_mean": mean, "lat_comp": comp, "lat_mean": mean}
    for seed, key in enumerate(("act_stdev", "lat_stdev", "var_ratio", "random_stdevs"), start=2):
        arrays[key] = np.abs(vector(seed, 6))
    np.savez_compressed(tmp_path / "in.npz", **arrays)
    found = import_directions(str(tmp_path / "in.npz"), FFHQ)
    assert sorted(export_directions(found, str(tmp_path / "out.npz"))) == sorted(arrays)
    got = np.load(tmp_path / "out.npz")
    for key, want in arrays.items():
        assert got[key].dtype == np.float32
        assert np.array_equal(got[key], want), key
    np.savez(tmp_path / "activations.npz", **{**arrays, "act_comp": vector(9, 6, 1, 64)})
    found = import_directions(str(tmp_path / "activations.npz"), FFHQ)
    with pytest.raises(DataError, match="found in activations"):
        export_directions(found, str(tmp_path / "out.npz"))
    with pytest.raises(ConfigError, match=r"components 0 \.\. C-1 of one PCA"):
        export_directions(found[1:], str(tmp_path / "out.pt"))


def test_a_pca_of_our_own_is_what_other_repositories_read(tmp_path: Path) -> None:
    """hyperstyle#61, encoder4editing#55: how do I make `_pca.pt` for my own domain?"""
    pca = fit_ganspace(vector(0, 300, 16), GanSpaceConfig(components=8))
    found = [pca.direction(i, "g", "f" * 64) for i in range(len(pca))]
    export_directions(found, str(tmp_path / "own_pca.pt"))
    read_back = torch.load(tmp_path / "own_pca.pt", weights_only=True)
    assert np.array_equal(read_back["comp"][:, 0].numpy(), pca.components)
    assert np.array_equal(read_back["std"].numpy(), pca.sigma)


def test_several_directions_by_name(tmp_path: Path) -> None:
    a, b = direction(vector(0)), replace(direction(vector(1)), name="smile")
    for suffix in ("pt", "npz"):
        uri = str(tmp_path / f"all.{suffix}")
        assert export_directions([a, b], uri) == ["age", "smile"]
        found = import_directions(uri, FFHQ, space="w")
        assert [d.name for d in found] == ["age", "smile"]
        assert np.array_equal(found[1].vector, b.vector)


@pytest.mark.parametrize("suffix", ["pt", "npz"])
def test_styles(tmp_path: Path, suffix: str) -> None:
    layers = (("convs.4", 512), ("convs.11", 256))
    d = direction(vector(0, 768), space="s", style_layers=layers)
    uri = str(tmp_path / f"smile.{suffix}")
    export_direction(d, uri)
    (back,) = import_directions(uri, FFHQ)
    assert (back.space, back.style_layers) == ("s", layers)
    assert np.array_equal(back.vector, d.vector)
    with pytest.raises(DataError, match="belongs to another generator"):
        import_directions(uri, DeclaredGenerator("g", 32))


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    rows, one = direction(vector(0, 4, D), layers=(2, 6)), direction(vector())
    for form in ("vector", "row"):
        with pytest.raises(ConfigError, match="4 rows that differ"):
            export_direction(rows, str(tmp_path / "a.npy"), form=form)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="state how many"):
        export_direction(rows, str(tmp_path / "a.npy"), form="rows")
    export_direction(rows, str(tmp_path / "a.npy"), form="rows", num_ws=18)
    written = np.load(tmp_path / "a.npy")
    assert np.array_equal(written[2:6], rows.vector)
    assert not written[:2].any()
    assert not written[6:].any()
    with pytest.raises(ConfigError, match="4 rows are too few"):
        export_direction(rows, str(tmp_path / "a.npy"), form="rows", num_ws=4)
    with pytest.raises(ConfigError, match="state how many to write"):
        export_direction(one, str(tmp_path / "a.npy"), form="batch")
    with pytest.raises(ConfigError, match=r"ends in \.npy, \.npz, \.pt"):
        export_direction(one, str(tmp_path / "a.txt"))
    with pytest.raises(ConfigError, match="one array per layer"):
        export_direction(direction(vector(), space="s", style_layers=[("convs.0", D)]), str(tmp_path / "a.npy"))
    with pytest.raises(ConfigError, match="has no rows"):
        export_direction(direction(vector(), space="z"), str(tmp_path / "a.npy"), form="rows", num_ws=18)
    with pytest.raises(ConfigError, match="names of their own"):
        export_directions([one, one], str(tmp_path / "a.pt"))
    with pytest.raises(ConfigError, match="directions of different lengths"):
        export_directions([one, replace(direction(vector(0, 16)), name="b")], str(tmp_path / "a.pt"))
    with pytest.raises(ConfigError, match="holds one array"):
        export_directions([one], str(tmp_path / "a.npy"))
    with pytest.raises(StoreError, match="cannot be written"):
        export_direction(one, str(tmp_path / "a.npy" / "b.npy"))
