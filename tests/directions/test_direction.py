from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.errors import ConfigError, DataError, GeneratorMismatch

ROWS, DIM = 6, 16


def direction(**changes: object) -> Direction:
    vector = np.random.default_rng(0).normal(size=DIM)
    given: dict = {
        "name": "smile",
        "vector": vector / np.linalg.norm(vector),
        "space": "w",
        "generator_name": "faces",
        "generator_fingerprint": "a" * 64,
        "method": "interfacegan-svc",
    }
    return Direction(**{**given, **changes})


@pytest.fixture
def w() -> torch.Tensor:
    return torch.randn(3, ROWS, DIM, generator=torch.Generator().manual_seed(1))


def test_relative_moves_every_row_by_strength_units(w: torch.Tensor) -> None:
    d = direction(unit=0.5)
    moved = (d.apply(w, 2.0) - w) @ torch.tensor(d.vector)
    torch.testing.assert_close(moved, torch.full((3, ROWS), 1.0), atol=1e-5, rtol=0)


def test_absolute_sets_the_coordinate_of_each_row_and_is_idempotent(w: torch.Tensor) -> None:
    d = direction(mode="absolute", mean=np.linspace(-1, 1, DIM), unit=0.5, layers=(1, 4))
    once = d.apply(w, 3.0)
    coordinate = (once - torch.tensor(d.mean)) @ torch.tensor(d.vector) / d.unit
    torch.testing.assert_close(coordinate[:, 1:4], torch.full((3, 3), 3.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(d.apply(once, 3.0), once, atol=1e-5, rtol=0)


def test_absolute_without_mean_puts_the_code_at_a_distance_from_the_plane(w: torch.Tensor) -> None:
    d = direction(mode="absolute")
    torch.testing.assert_close(d.apply(w, 1.5) @ torch.tensor(d.vector), torch.full((3, ROWS), 1.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_rows_outside_the_range_are_bit_identical(w: torch.Tensor, mode: str) -> None:
    edited = direction(mode=mode, layers=(2, 4)).apply(w, 7.0)
    assert torch.equal(edited[:, :2], w[:, :2])
    assert torch.equal(edited[:, 4:], w[:, 4:])
    assert not torch.isclose(edited[:, 2:4], w[:, 2:4]).all()


def test_strength_per_sample_and_gradient_through_w(w: torch.Tensor) -> None:
    d = direction()
    strengths = torch.tensor([0.0, 1.0, -2.0])
    edited = d.apply(w.requires_grad_(), strengths)
    for i, strength in enumerate(strengths.tolist()):
        torch.testing.assert_close(edited[i : i + 1], d.apply(w[i : i + 1], strength))
    assert torch.equal(torch.autograd.grad(edited.sum(), w)[0], torch.ones_like(w))


def test_one_vector_per_row_moves_each_row_its_own_way(w: torch.Tensor) -> None:
    vectors = np.random.default_rng(2).normal(size=(2, DIM)).astype(np.float32)
    edited = direction(vector=vectors, space="w+", layers=(3, 5)).apply(w, 2.0)
    torch.testing.assert_close(edited[:, 3:5] - w[:, 3:5], torch.tensor(2 * vectors).expand(3, 2, DIM))


def test_does_not_change_its_input(w: torch.Tensor) -> None:
    before = w.clone()
    direction().apply(w, 1.0)
    assert torch.equal(w, before)


def test_another_generator_is_refused_and_both_are_named() -> None:
    with pytest.raises(GeneratorMismatch, match=r"'smile'.*faces \(aaaaaaaaaaaa\).*cars \(bbbbbbbbbbbb\)"):
        direction().check("b" * 64, "cars")
    direction().check("a" * 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (3, 3)}, "start < end"),
        ({"layers": (4, 2)}, "start < end"),
        ({"layers": (0, -1)}, "use None for all rows"),
        ({"vector": np.zeros(DIM)}, "zero vector"),
        ({"vector": np.full(DIM, np.nan)}, "not finite"),
        ({"vector": np.ones((1, 2, DIM))}, r"\[w_dim\] or \[rows, w_dim\]"),
        ({"vector": np.ones((3, DIM)), "layers": (0, 2)}, "moves 2 rows but its vector has 3"),
        ({"unit": 0.0}, "positive distance"),
        ({"space": "f"}, "space must be one of"),
        ({"mode": "both"}, "mode one of"),
    ],
)
def test_unusable_directions_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        direction(**changes)


def test_codes_it_does_not_fit_are_refused(w: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="to move rows 2 to 8 of w, and this code has rows 0 to 5"):
        direction(layers=(2, 9)).apply(w, 1.0)
    with pytest.raises(ConfigError, match="to move rows 0 to 4"):
        direction(vector=np.ones((5, DIM))).apply(w, 1.0)
    with pytest.raises(ConfigError, match=r"\[batch, rows, 16\]"):
        direction().apply(w[..., :8], 1.0)
    with pytest.raises(ConfigError, match="lives in 'z'"):
        direction(space="z").apply(w, 1.0)
    with pytest.raises(ConfigError, match="lives in 's'"):
        direction(space="s", style_layers=[("convs.0", DIM)]).apply(w, 1.0)
    with pytest.raises(ConfigError, match="one for each of the 3 samples"):
        direction().apply(w, torch.ones(2))


def test_record_round_trip_is_lossless() -> None:
    original = direction(
        vector=np.random.default_rng(3).normal(size=(3, DIM)),
        space="w+",
        mean=np.arange(DIM),
        layers=(1, 4),
        unit=0.25,
        mode="absolute",
        positive_means="smiles",
        intercept=-0.5,
        labeller="portraits-64@1",
        report={"k": 10},
        version=3,
    )
    arrays, metadata = original.to_record()
    back = Direction.from_record(arrays, json.loads(json.dumps(metadata)))
    assert np.array_equal(back.vector, original.vector)
    assert back.mean is not None
    assert np.array_equal(back.mean, np.arange(DIM, dtype=np.float32))
    assert back.to_record()[1] == metadata
    assert back.layers == (1, 4)


def test_flat_w_plus_vectors_are_carried_without_loss() -> None:
    """docs/methods/interfacegan.md, check 8: total norm 1 over all rows, row norms differ."""
    flat = np.random.default_rng(4).normal(size=9216)
    flat = (flat / np.linalg.norm(flat)).astype(np.float32)
    arrays, metadata = direction(vector=flat.reshape(18, 512), space="w+").to_record()
    assert np.array_equal(Direction.from_record(arrays, metadata).vector.reshape(-1), flat)


def test_a_record_with_unknown_parts_is_refused() -> None:
    arrays, metadata = direction().to_record()
    with pytest.raises(DataError, match="not the record of a direction"):
        Direction.from_record(arrays, {**metadata, "colour": "red"})
    with pytest.raises(DataError, match="not the record of a direction"):
        Direction.from_record({}, metadata)


def test_vectors_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="read-only"):
        direction().vector[0] = 1.0


def test_the_e4e_form_reads_the_coordinate_in_row_0(w: torch.Tensor) -> None:
    """docs/methods/ganspace.md, "Where we differ": one step for all edited rows."""
    d = direction(mode="absolute-first-row", mean=np.ones(DIM), unit=0.5, layers=(2, 5))
    x = (w[:, 0] - 1) @ torch.tensor(d.vector)
    expected = (3.0 * 0.5 - x)[:, None, None] * torch.tensor(d.vector)
    torch.testing.assert_close(d.apply(w, 3.0)[:, 2:5] - w[:, 2:5], expected.expand(3, 3, DIM), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_in_z(mode: str) -> None:
    z = torch.randn(3, DIM, generator=torch.Generator().manual_seed(2))
    d = direction(space="z", mode=mode, unit=2.0)
    before, after = (x @ torch.tensor(d.vector) for x in (z, z + d.step_z(z, torch.tensor([1.0, 0.0, -1.0]))))
    wanted = torch.tensor([2.0, 0.0, -2.0]) + (before if mode == "relative" else 0)
    torch.testing.assert_close(after, wanted, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="cannot be added to z"):
        d.step_z(z[:, :4], 1.0)


def test_in_s_only_the_layers_that_move_have_offsets(w: torch.Tensor) -> None:
    vector = np.zeros(14)
    vector[[4, 13]] = 1.0, -2.0
    d = direction(space="s", vector=vector, unit=0.5, style_layers=[("convs.0", 4), ("convs.1", 6), ("torgbs.1", 4)])
    offsets = d.style_offsets(torch.tensor([1.0, 0.0, 3.0]), w)
    assert sorted(offsets) == ["convs.1", "torgbs.1"]
    assert offsets["convs.1"][:, 0].tolist() == [0.5, 0.0, 1.5]
    assert offsets["torgbs.1"][2].tolist() == [0.0, 0.0, 0.0, -3.0]
    assert d.style_offsets(1.0, w)["convs.1"].shape == (1, 6)
    with pytest.raises(ConfigError, match="no styles to move"):
        direction().style_offsets(1.0, w)


def test_a_range_given_at_edit_time_takes_the_place_of_its_own(w: torch.Tensor) -> None:
    assert direction(layers=(0, 2)).at_layers(3, 5).layers == (3, 5)
    vectors = np.random.default_rng(2).normal(size=(4, DIM))
    rows = direction(vector=vectors, space="w+", layers=(1, 5)).at_layers(2, 4)
    assert torch.equal(rows.apply(w, 1.0)[:, 2:4], w[:, 2:4] + torch.tensor(vectors[1:3], dtype=torch.float32))
    with pytest.raises(ConfigError, match="has vectors for rows 1-4, not for 0-1"):
        direction(vector=vectors, space="w+", layers=(1, 5)).at_layers(0, 2)
    with pytest.raises(ConfigError, match="no rows of W"):
        direction(space="z").at_layers(0, 2)


def test_a_stated_generator_must_be_trusted_by_name_and_have_the_rows(w: torch.Tensor) -> None:
    d = direction(generator_fingerprint=UNVERIFIED, generator_name="ffhq", generator_resolution=1024)
    for fingerprint in ("a" * 64, UNVERIFIED):
        with pytest.raises(GeneratorMismatch, match=r"'smile' was imported for 'ffhq' without its weights.*`trust`"):
            d.check(fingerprint, "faces")
        d.check(fingerprint, "faces", trust=True)
    with pytest.raises(ConfigError, match="whose W\\+ has 18 rows; this code has 6"):
        d.apply(w, 1.0)
    assert torch.equal(direction(generator_resolution=16).apply(w, 1.0), direction().apply(w, 1.0))
    with pytest.raises(GeneratorMismatch, match="belongs to generator faces"):  # what is known is not a matter of trust
        direction().check("b" * 64, trust=True)


def test_double_precision_is_kept_where_it_is_asked_for() -> None:
    vector = np.random.default_rng(0).normal(size=DIM)
    assert np.array_equal(direction(vector=vector, dtype="float64").vector, vector)
    assert direction(vector=vector, dtype="float64").apply(torch.zeros(1, 2, DIM), 1.0).dtype == torch.float32
    assert direction(vector=vector).vector.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "s"}, "needs style_layers"),
        ({"style_layers": [("convs.0", DIM)]}, "and no other, needs style_layers"),
        ({"space": "s", "style_layers": [("convs.0", 3)]}, "do not make up its vector"),
        ({"space": "s", "style_layers": [("convs.0", 8), ("convs.0", 8)]}, "do not make up its vector"),
        ({"space": "s", "style_layers": [("convs.0", DIM)], "mode": "absolute"}, "mode 'absolute' is not for"),
        ({"space": "z", "layers": (0, 2)}, "has no rows of W"),
        ({"space": "z", "vector": np.ones((2, DIM))}, "is one vector"),
        ({"dtype": "float16"}, "dtype one of"),
    ],
)
def test_directions_in_z_and_s_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        direction(**changes)
