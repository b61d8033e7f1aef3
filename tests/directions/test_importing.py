"""Every published direction file opens by content; everything malicious or damaged is refused in words."""

from __future__ import annotations

import csv
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.directions.exchange import direction_files
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.direction_files import read_direction_file
from ganinv.directions.exchange.importing import import_directions
from ganinv.directions.fitting.projection import project_out
from ganinv.errors import ConfigError, DataError, GeneratorMismatch, WeightsRefused
from tests.reading.pickles import call
from tests.tiny import tiny_generator

FFHQ = DeclaredGenerator("stylegan2-ffhq", 1024)
D = 512


@pytest.fixture
def community(shared: Path) -> Path:
    return shared / "data/community-directions"


def save(path: Path, value: Any) -> str:
    """``value`` in the format of the suffix."""
    if path.suffix == ".npy":
        np.save(path, value, allow_pickle=True)
    elif path.suffix == ".npz":
        np.savez(path, **value)
    elif path.suffix == ".pt":
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value))
    return str(path)


def vector(seed: int = 0, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape or (D,)).astype(np.float32)


def one(uri: str, generator: DeclaredGenerator = FFHQ, **how: Any) -> Direction:
    (direction,) = import_directions(uri, generator, **{"space": "w", **how})
    return direction


def test_every_published_file_as_its_manifest_says(community: Path) -> None:
    """docs/methods/interfacegan.md, check 2."""
    rows = list(csv.DictReader((community / "manifest.csv").open()))
    assert len(rows) == 41
    for row in rows:
        uri, stem = str(community / row["path"]), Path(row["path"]).stem
        basis, statistics = "comp (80" in row["contents"], row["contents"].startswith("[mean, std]")
        in_z = row["path"].startswith("interfacegan") and not stem.endswith("_w_boundary")
        generator = DeclaredGenerator("church", 256) if "church" in stem else FFHQ
        space = None if basis or statistics else "z" if in_z else "w"
        found = import_directions(
            uri, generator, space=space, select=["6:501"] if statistics else (), sha256=row["sha256"]
        )
        assert len(found) == (80 if basis else 1), stem
        d, source = found[0], found[0].report["source"]
        assert source["sha256"] == row["sha256"]
        assert source["file"] == Path(row["path"]).name
        if statistics:
            continue
        if basis:
            sigmas = [float(f"{f.unit:.3f}") for f in (found[0], found[-1])]
            assert sigmas == [float(x) for x in re.findall(r"(\d+\.\d+)", row["norms"])[:2]]
            assert float(f"{np.linalg.norm(d.mean):.3f}") == float(row["norms"].rpartition(" ")[2])  # type: ignore[arg-type]
            assert (d.name, d.mode, d.space) == ("pca-00", "absolute", "w")
            continue
        assert d.space == space
        assert d.name == stem
        shape, dtype = re.fullmatch(r"\((.*)\) (\w+)", row["contents"]).groups()  # type: ignore[union-attr]
        assert source["shape"] == [int(n) for n in shape.split(",")]
        assert source["dtype"] == dtype == str(d.vector.dtype) == d.dtype
        norm = float(row["norms"].rpartition(" ")[2])
        assert source["row_norm"] == pytest.approx([norm, norm], abs=1e-4)
        assert np.linalg.norm(d.vector) == pytest.approx(norm, abs=1e-4)
        assert d.vector.shape == (D,)
        assert source.get("equal_rows") == (18 if "18" in shape else None)
        assert not d.verified
        assert d.generator_resolution == (None if in_z else 1024)


def test_a_cuda_file_opens_on_the_cpu_and_is_pti_s(community: Path) -> None:
    pose, rotation = one(str(community / "e4e/pose.pt")), one(str(community / "pti/rotation.pt"))
    assert np.array_equal(pose.vector, rotation.vector)
    assert pose.report["source"]["norm"] == pytest.approx(18**0.5)


def test_conditional_boundaries_follow_from_the_primal_ones(community: Path) -> None:
    """docs/methods/interfacegan.md, check 1: in the precision of the files, through an import."""

    def boundary(name: str) -> np.ndarray:
        return one(str(community / f"interfacegan/{name}_boundary.npy"), space="z").vector

    for gan, attribute, *conditions in (
        ("stylegan_ffhq", "age", "gender"),
        ("stylegan_ffhq", "age", "eyeglasses"),
        ("stylegan_ffhq", "eyeglasses", "age"),
        ("stylegan_ffhq", "eyeglasses", "gender"),
        ("pggan_celebahq", "age", "gender", "eyeglasses"),
    ):
        others = np.stack([boundary(f"{gan}_{c}") for c in conditions])
        want = boundary(f"{gan}_{attribute}_c_{'_'.join(conditions)}")
        assert np.abs(project_out(boundary(f"{gan}_{attribute}"), others) - want).max() < 1e-12


def test_a_channel_of_published_statistics(community: Path) -> None:
    """docs/methods/stylespace.md, check 3: standard deviations of (6, 501), (9, 421), (15, 45) and (12, 479); the offsets of its
    layers."""
    smile, goatee = import_directions(str(community / "hyperstyle/S_mean_std"), FFHQ, select=["6:501", "convs.6:421"])
    assert (smile.space, smile.style_layers, smile.name) == ("s", (("convs.4", 512),), "s-6-501")
    assert smile.unit == pytest.approx(1.305, abs=1e-3)
    assert goatee.unit == pytest.approx(2.361, abs=1e-3)
    assert goatee.vector.nonzero()[0].tolist() == [421]
    others = import_directions(str(community / "hyperstyle/S_mean_std"), FFHQ, select=["15:45", "12:479"])
    assert [d.unit for d in others] == pytest.approx([0.873, 1.200], abs=1e-3)
    means, stds = read_direction_file(str(community / "hyperstyle/S_mean_std")).tree
    offsets = [0, *np.cumsum([len(layer) for layer in means])]
    assert offsets == [*range(0, 7681, 512), 7936, 8192, 8448, 8576, 8704, 8832, 8896, 8960, 9024, 9056, 9088]
    for layer, values in enumerate(stds):
        last = len(values) - 1
        (found,) = import_directions(str(community / "hyperstyle/S_mean_std"), FFHQ, select=[f"{layer}:{last}"])
        assert found.unit == pytest.approx(float(np.ravel(values)[last]))
    for key in ("26:0", "6:512", "convs.4", "6", "torgbs.99:1"):
        with pytest.raises(ConfigError, match="no channel"):
            import_directions(str(community / "hyperstyle/S_mean_std"), FFHQ, select=[key])
    with pytest.raises(DataError, match="select channels as LAYER:CHANNEL"):
        import_directions(str(community / "hyperstyle/S_mean_std"), FFHQ)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".pkl"])
@pytest.mark.parametrize("shape", [(D,), (1, D), (18, D), (1, 18, D), (1, 18 * D), (18 * D,)])
def test_shapes(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    v = vector(0, *shape)
    d = one(
        save(tmp_path / f"age{suffix}", torch.tensor(v) if suffix == ".pt" else v), space=None if v.size > D else "w"
    )
    assert (d.space, d.vector.shape) == (("w", (D,)) if v.size == D else ("w+", (18, D)))
    assert np.array_equal(d.vector.reshape(-1), v.reshape(-1))


@pytest.mark.parametrize("shape", [(18, D), (1, 18, D), (1, 18 * D)])
def test_equal_rows_become_one_vector(tmp_path: Path, shape: tuple[int, ...]) -> None:
    v = np.tile(vector(), (18, 1)).reshape(shape)
    d = one(save(tmp_path / "glasses.npy", 3 * v), space=None, layers=(2, 4))
    assert np.array_equal(d.vector, 3 * vector())
    assert (d.space, d.layers, d.report["source"]["equal_rows"]) == ("w", (2, 4), 18)


def test_rows_that_differ_with_a_range(tmp_path: Path) -> None:
    v = vector(1, 18, D)
    for given in (v, v[4:8]):
        d = one(save(tmp_path / "steer.npy", given), space=None, layers=(4, 8))
        assert np.array_equal(d.vector, v[4:8])
        assert d.layers == (4, 8)


def test_in_domain_boundaries(tmp_path: Path) -> None:
    """A dictionary pickled into a npy, with the rows that the boundary is meant for."""
    for rows in ([2, 3, 4, 5], "2-5", "2,3,4,5", np.arange(2, 6)):
        value = {"boundary": vector(0, 1, D), "meta_data": {"manipulate_layers": rows, "latent_space_type": "WP"}}
        d = one(save(tmp_path / "expression.npy", value))
        assert np.array_equal(d.vector, vector())
        assert d.layers == (2, 6)
        assert d.report["meta_data"]["latent_space_type"] == "WP"
    bad = {"boundary": vector(), "meta_data": {"manipulate_layers": [1, 3]}}
    with pytest.raises(DataError, match=r"\[1, 3\] are not a range"):
        one(save(tmp_path / "expression.npy", bad))


def test_other_layouts(tmp_path: Path) -> None:
    anycost = {"20_Male": vector(1, 1, D), "31_Smiling": vector(2, 1, D)}
    uri = save(tmp_path / "boundaries.pt", {k: torch.tensor(v) for k, v in anycost.items()})
    assert [d.name for d in import_directions(uri, FFHQ, space="w")] == ["20_Male", "31_Smiling"]
    assert np.array_equal(one(uri, select=["31_Smiling"], name="smile").vector, vector(2))
    with pytest.raises(ConfigError, match="no direction 'Smiling'; there are: 20_Male, 31_Smiling"):
        one(uri, select=["Smiling"])
    eigvec = vector(3, D, D)
    d = one(save(tmp_path / "factor.pt", {"ckpt": "x.pt", "eigvec": torch.tensor(eigvec)}), select=["7"])
    assert np.array_equal(d.vector, eigvec[:, 7])
    assert d.name == "sefa-07"
    assert np.array_equal(one(save(tmp_path / "one.npz", {"arr_0": vector(4)})).vector, vector(4))
    viewer = {"lat_comp": vector(5, 1, D), "lat_stdev": 1.5, "latent_space": "W", "edit_start": 3, "edit_end": 6}
    d = one(save(tmp_path / "hair.pkl", {**viewer, "name": "hair", "act_comp": vector(6), "component_index": 9}))
    assert (d.layers, d.unit, d.report["component_index"]) == ((3, 6), 1.5, 9)


def test_ganspace_in_both_layouts(tmp_path: Path) -> None:
    comp, mean, std = vector(0, 5, 1, D), vector(1, 1, D), np.linspace(3, 1, 5, dtype=np.float32)
    npz = {
        "act_comp": comp,
        "act_mean": mean,
        "act_stdev": std + 1,
        "lat_comp": comp,
        "lat_mean": mean,
        "lat_stdev": std,
    }
    a = save(tmp_path / "stylegan2-ffhq_style_ipca.npz", {**npz, "var_ratio": std / 9, "random_stdevs": std / 2})
    b = save(tmp_path / "ffhq_pca.pt", {k: torch.tensor(v) for k, v in (("std", std), ("comp", comp), ("mean", mean))})
    for uri in (a, b):
        found = import_directions(uri, FFHQ, select=["04", "1"], layers=(7, 8), mode="absolute-first-row")
        assert [d.name for d in found] == ["pca-04", "pca-01"]
        assert np.array_equal(found[0].vector, comp[4, 0])
        assert np.array_equal(found[1].mean, mean[0])  # type: ignore[arg-type]
        assert (found[0].unit, found[0].layers, found[0].mode) == (1.0, (7, 8), "absolute-first-row")
    with pytest.raises(ConfigError, match=r"no direction '5'; there are: 0, 1, 2, 3, 4"):
        import_directions(a, FFHQ, select=["5"])
    with pytest.raises(ConfigError, match="holds directions in 'w'"):
        import_directions(a, FFHQ, space="z")
    of_z = save(tmp_path / "z.npz", {**npz, "lat_stdev": np.ones(5, np.float32)})
    with pytest.raises(ConfigError, match="z or w; state space"):
        import_directions(of_z, FFHQ, select=["0"])
    assert import_directions(of_z, FFHQ, select=["0"], space="z")[0].space == "z"


def test_styles_of_all_layers(tmp_path: Path) -> None:
    """docs/methods/stylespace.md, check 1: 26 layers, 9088 and 6048 without toRGB; 23 and 20 layers at 512 and 256."""
    layers = FFHQ.style_layers
    assert (len(layers), sum(w for _, w in layers)) == (26, 9088)
    assert [len(DeclaredGenerator("g", r).style_layers) for r in (512, 256)] == [23, 20]
    without = [w for n, w in layers if n.startswith("convs")]
    assert sum(without) == 6048
    flat = np.zeros(9088, np.float32)
    flat[[512 * 9 + 421, 8192 + 5]] = 1.0, -2.0
    d = one(save(tmp_path / "beard.npy", flat), space="s")
    assert d.style_layers == (("convs.6", 512), ("convs.11", 256))
    assert d.vector[421] == 1.0
    assert d.vector[512 + 5] == -2.0
    parts = np.split(flat, np.cumsum([w for _, w in layers])[:-1])
    assert np.array_equal(one(save(tmp_path / "beard.pkl", [p[None] for p in parts]), space=None).vector, d.vector)
    kept = np.concatenate([p for p, (n, _) in zip(parts, layers, strict=True) if n.startswith("convs")])
    assert one(save(tmp_path / "no_rgb.npy", kept), space="s").style_layers == d.style_layers
    with pytest.raises(DataError, match=r"100 styles; S of 'stylegan2-ffhq'.* has 9088, or 6048 without toRGB"):
        one(save(tmp_path / "x.npy", vector(0, 100)), space="s")


def test_a_generator_at_hand_is_recorded_and_its_shapes_hold(tmp_path: Path) -> None:
    g = tiny_generator()
    stated = DeclaredGenerator.of(g)
    assert [name for name, _ in stated.style_layers] == g.style_names
    assert [width for _, width in stated.style_layers] == [s.shape[1] for s in g.styles(torch.zeros(1, g.num_ws, 16))]
    d = one(save(tmp_path / "smile.npy", vector(0, 16)), stated, positive_means="a smile")
    d.check(g.fingerprint)
    assert (d.verified, d.report["generator_verified"], d.positive_means) == (True, True, "a smile")
    with pytest.raises(
        DataError, match=r"shape \[512\] is not a direction in w of 'tiny' \(resolution 32, 8 rows of 16\)"
    ):
        one(save(tmp_path / "smile.npy", vector()), stated)
    with pytest.raises(DataError, match=r"10 rows of 16, but 'tiny'.* has 8"):
        one(save(tmp_path / "smile.npy", vector(0, 10, 16)), stated)
    assert DeclaredGenerator("tiny", 32, 16).style_layers[0][0] == "convs.0"


def test_an_unverified_one_is_applied_only_when_trusted(tmp_path: Path) -> None:
    d = one(save(tmp_path / "smile.npy", vector(0, 16)), DeclaredGenerator("tiny", 32, w_dim=16))
    g = tiny_generator()
    assert d.generator_fingerprint == UNVERIFIED
    with pytest.raises(GeneratorMismatch, match="'smile' was imported for 'tiny' without its weights"):
        d.check(g.fingerprint, g.name)
    d.check(g.fingerprint, g.name, trust=True)
    with pytest.raises(ConfigError, match="has 8 rows; this code has 6"):
        d.apply(torch.zeros(1, 6, 16), 1.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full(D, np.nan, np.float32), "holds 512 values that are not finite"),
        (np.zeros(D, np.float32), "zero vector"),
        (np.ones(D, np.int64), "must be an array of floating-point numbers, it is an array of shape .* int64"),
        (np.ones((14, D), np.float32) * np.arange(14)[:, None], r"14 rows of 512, but 'stylegan2-ffhq'.* has 18"),
        (np.ones((1, 256), np.float32), r"shape \[1, 256\] is not a direction in w of 'stylegan2-ffhq'"),
        (np.ones((2, 2, D), np.float32), "is not a direction"),
        ({"state_dict": {"a": np.ones((3, 3))}}, "no direction in it. It holds a dictionary of state_dict"),
        ({"boundary": "text"}, "no direction in it"),
        ({"a": [1, 2, 3]}, "no direction in it"),
        ("text", "It holds 'text'|an array of shape .* <U4"),
    ],
)
def test_what_is_no_direction_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    for suffix in (".npy", ".pkl"):
        with pytest.raises(DataError, match=message) as caught:
            one(save(tmp_path / f"smile{suffix}", value))
        assert "smile" in str(caught.value)


def test_one_vector_does_not_say_whether_it_is_of_z_or_w(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot say whether it lives in z or w; state space"):
        one(save(tmp_path / "smile.npy", vector()), space=None)
    with pytest.raises(DataError, match=r"rows \[4, 20\) are stated"):
        one(save(tmp_path / "smile.npy", vector()), layers=(4, 20))
    with pytest.raises(ConfigError, match="power of two"):
        DeclaredGenerator("x", 100)


def with_objects(payload: bytes) -> bytes:
    """A npy of one object whose pickle is ``payload``."""
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": "|O", "fortran_order": False, "shape": ()})
    return sink.getvalue() + payload


@pytest.mark.parametrize("case", [("os", "system", "touch PWNED"), ("builtins", "eval", "open('PWNED', 'w')")])
def test_nothing_in_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str]) -> None:
    monkeypatch.chdir(tmp_path)
    payload = call(*case)
    sink = io.BytesIO()
    np.savez(sink, smile=np.ones(3))
    for name, data in (("a.npy", with_objects(payload)), ("a.pkl", payload)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsRefused, match=rf"{name}: loading it would call {case[0]}\.{case[1]}"):
            one(str(tmp_path / name))
    assert not (tmp_path / "PWNED").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    good = (tmp_path / "g.npy", tmp_path / "g.npz", tmp_path / "o.npy", tmp_path / "g.pt")
    values = (vector(), {"a": vector()}, {"boundary": vector()}, torch.tensor(vector()))
    for path, value in zip(good, values, strict=True):
        data = Path(save(path, value)).read_bytes()
        for cut in (1, 7, 40, len(data) // 2, len(data) - 1):
            bad = tmp_path / f"bad{path.suffix}"
            bad.write_bytes(data[:cut])
            with pytest.raises(WeightsRefused, match=re.escape(str(bad))):
                one(str(bad))
    for data, message in (
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x93NUMPY\x09\x00", r"format 9\.0"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "damaged"),
        (with_objects(pickle.dumps([1])), "what should be an array of objects"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ):
        bad.write_bytes(data)
        with pytest.raises(WeightsRefused, match=message):
            one(str(bad))
    with pytest.raises(WeightsRefused, match="no file at"):
        one(str(tmp_path / "none.npy"))
    with pytest.raises(WeightsRefused, match="folder"):
        one(str(tmp_path))
    with pytest.raises(WeightsRefused, match="its sha256 is"):
        one(str(good[0]), sha256="0" * 64)


def test_claims_of_size_are_checked_before_memory_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**20)})
    (tmp_path / "huge.npy").write_bytes(sink.getvalue() + bytes(64))
    with pytest.raises(WeightsRefused, match="incomplete or damaged"):
        read_direction_file(str(tmp_path / "huge.npy"))
    monkeypatch.setattr(direction_files, "MAX_BYTES", 2**20)
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(2**19, np.float32))
    with pytest.raises(WeightsRefused, match=r"unpack to \d+ bytes"):
        read_direction_file(str(tmp_path / "bomb.npz"))
    np.save(tmp_path / "large.npy", np.zeros(2**19, np.float32))
    with pytest.raises(WeightsRefused, match="too large for a file of directions"):
        read_direction_file(str(tmp_path / "large.npy"))


BAD = {
    "touch_open.pkl": r"loading it would call io\.open",
    "touch_os_system.pkl": r"loading it would call (posix|os)\.system",
    "touch_in_zip.pt": r"loading it would call io\.open",
    "arbitrary_class.pt": "no direction in it",
    "truncated.pkl": "incomplete",
    "truncated.pt": "incomplete",
    "zero_bytes.pkl": "empty",
    "zero_bytes.pt": "empty",
    "quota_page.pkl": "web page",
    "nan_weights.pt": "no direction in it",
    "missing_keys.safetensors": "no direction in it",
    "complete.safetensors": "no direction in it",
    "embedded_source_acts.pkl": "no direction in it",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((WeightsRefused, DataError), match=BAD[name]) as caught:
        one(str(made / "bad" / name))
    assert name in str(caught.value)
    assert not list(tmp_path.iterdir())
