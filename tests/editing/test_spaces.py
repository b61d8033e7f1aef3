"""One edit, whatever space its directions live in and however the code came about."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code, LowRank, Masked
from ganinv.directions.direction import Direction
from ganinv.editing import Edit
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.stylegan2 import Generator
from ganinv.records import code_to_table, table_to_code
from ganinv.store import Plan, open_store
from tests.tiny import tiny_generator


@pytest.fixture(scope="module")
def g() -> Generator:
    return tiny_generator()


def direction(g: Generator, name: str, vector: np.ndarray, **more: object) -> Direction:
    given: dict = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    return Direction(name, vector, **{**given, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def directions(g: Generator) -> dict[str, Direction]:
    rng = np.random.default_rng(0)
    style = np.zeros(16)
    style[3] = 1
    return {
        "in-z": direction(g, "in-z", rng.normal(size=16), space="z", unit=0.5),
        "in-w": direction(g, "in-w", rng.normal(size=16), space="w"),
        "in-s": direction(g, "in-s", style, space="s", unit=2.0, style_layers=[("convs.2", 16)]),
        "other-s": direction(
            g, "other-s", rng.normal(size=32), space="s", style_layers=[("convs.2", 16), ("torgbs.1", 16)]
        ),
    }


def code(g: Generator, batch: int = 3) -> Code:
    """Samples with tuned weights and features' worth of extras."""
    r = torch.Generator().manual_seed(5)
    z = torch.randn(batch, 16, generator=r)
    return Code(
        w=g.map(z),
        z=z,
        noise={2: torch.randn(batch, 1, 8, 8, generator=r)},
        weights={"convs.2.weight": LowRank(*(torch.randn(s, generator=r) for s in ((batch, 16, 2), (batch, 2, 144))))},
        styles={"torgbs.1": torch.randn(batch, 16, generator=r)},
    )


def test_in_z_an_edit_is_what_the_mapping_makes_of_the_moved_z(g: Generator, directions: dict[str, Direction]) -> None:
    before = code(g)
    strengths = torch.tensor([2.0, 0.0, -1.0])
    after = Edit({"in-z": strengths}).apply(before, directions, generator=g)
    assert before.z is not None
    moved = before.z + 0.5 * strengths[:, None] * torch.tensor(directions["in-z"].vector)
    torch.testing.assert_close(after.z, moved)
    torch.testing.assert_close(after.w, g.map(moved), atol=1e-6, rtol=1e-5)
    assert after.weights is before.weights
    assert after.noise is before.noise
    assert after.styles is before.styles
    assert not torch.equal(g.render(after)[0], g.render(before)[0])


def test_in_z_what_was_refined_in_w_is_kept(g: Generator, directions: dict[str, Direction]) -> None:
    plain = code(g)
    refined = 0.1 * torch.randn(plain.w.shape, generator=torch.Generator().manual_seed(1))
    after = Edit({"in-z": 1.0}).apply(plain.with_w(plain.w + refined), directions, generator=g)
    assert after.z is not None
    torch.testing.assert_close(after.w, g.map(after.z) + refined, atol=1e-6, rtol=1e-5)


def test_z_is_stored_with_the_inversion(g: Generator, directions: dict[str, Direction]) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    collection = store.latents["z"]
    collection.start(Plan.of("invert", {}, {}, ["a", "b", "c"], 3))
    before = code(g)
    back = table_to_code(code_to_table(before, ["a", "b", "c"], collection), store)
    torch.testing.assert_close(back.z, before.z, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(
        Edit({"in-z": 1.0}).apply(back, directions, generator=g).w,
        Edit({"in-z": 1.0}).apply(before, directions, generator=g).w,
        atol=2e-3,
        rtol=1e-2,
    )
    assert torch.equal(Code.cat([before, before]).z, torch.cat([before.z, before.z]))  # type: ignore[list-item,arg-type]
    assert Code.cat([before, replace(before, z=None)]).z is None


def test_an_inversion_in_z_has_its_z(g: Generator) -> None:
    from ganinv.stages.variables import Latent

    z = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(0))
    made = Latent("z").put(code(g, 2), {"z": z}, g, None)
    assert made.z is not None
    assert torch.equal(g.map(made.z), made.w)


def test_in_z_what_is_missing_is_said(g: Generator, directions: dict[str, Direction]) -> None:
    edit = Edit({"in-z": 1.0})
    with pytest.raises(ConfigError, match="'in-z' lives in z, and this code has no z"):
        edit.apply(replace(code(g), z=None), directions, generator=g)
    with pytest.raises(ConfigError, match="give the generator"):
        edit.apply(code(g), directions, g.fingerprint)
    with pytest.raises(ConfigError, match=r"has no rows of W\+; leave out the range 0-3"):
        Edit({"in-z(0-3)": 1.0}).apply(code(g), directions, generator=g)
    with pytest.raises(GeneratorMismatch, match="the code belongs to generator 000000000000"):
        edit.apply(code(g), directions, "0" * 64, generator=g)


def test_in_s_offsets_are_added_by_layer_and_channel(g: Generator, directions: dict[str, Direction]) -> None:
    before = code(g)
    after = Edit({"in-s": 1.5, "other-s": -1.0}).apply(before, directions, g.fingerprint)
    assert torch.equal(after.w, before.w)
    assert after.weights is before.weights
    assert after.styles is not None
    assert before.styles is not None
    other = torch.tensor(directions["other-s"].vector)
    torch.testing.assert_close(after.styles["convs.2"][0], 3.0 * torch.eye(16)[3] - other[:16])
    torch.testing.assert_close(after.styles["torgbs.1"], before.styles["torgbs.1"] - other[16:])
    assert list(before.styles) == ["torgbs.1"]  # the code that was given is as it was
    back = Edit({"in-s": -1.5}).apply(Edit({"in-s": 1.5}).apply(before, directions), directions)
    torch.testing.assert_close(g.render(back), g.render(before), atol=1e-5, rtol=1e-5)
    assert (g.render(after) - g.render(before)).abs().max() > 0.01


def test_in_s_a_code_of_another_width_is_refused(g: Generator, directions: dict[str, Direction]) -> None:
    wrong = replace(code(g), styles={"convs.2": torch.zeros(3, 8)})
    with pytest.raises(ConfigError, match=r"layer convs\.2 of this code has 8 styles, an edit moves 16"):
        Edit({"in-s": 1.0}).apply(wrong, directions)


def test_all_spaces_in_one_edit(g: Generator, directions: dict[str, Direction]) -> None:
    before = code(g)
    after = Edit({"in-w(1-2)": 1.0, "in-s": 1.0, "in-z": 1.0}).apply(before, directions, generator=g)
    w = directions["in-w"].at_layers(1, 3).step(before.w, 1.0)
    assert after.z is not None
    torch.testing.assert_close(after.w, g.map(after.z) + w, atol=1e-6, rtol=1e-5)
    assert after.styles is not None
    assert "convs.2" in after.styles


def test_conditions_stay_within_a_space(g: Generator, directions: dict[str, Direction]) -> None:
    with pytest.raises(ConfigError, match="'in-s' lives in 's' and cannot be made orthogonal to 'in-w'"):
        Edit({"in-s": 1.0}, conditions=["in-w"]).apply(code(g), directions)
    after = Edit({"in-s": 1.0}, conditions=["other-s"]).apply(replace(code(g), styles=None), directions)
    assert after.styles is not None
    moved = torch.cat([after.styles["convs.2"][0], after.styles["torgbs.1"][0]])
    assert abs(float(moved @ torch.tensor(directions["other-s"].vector))) < 1e-5


def test_a_step_in_w_moves_an_inversion_in_s(g: Generator, directions: dict[str, Direction]) -> None:
    """Its styles take the place of those of w: they move by what w would have moved."""
    plain = replace(code(g), styles=None)
    values = dict(zip(g.style_names, g.styles(plain.w), strict=True))
    in_s = replace(plain, style_values=values)
    edit = Edit({"in-w": 2.0})
    want = g.render(edit.apply(plain, directions))
    torch.testing.assert_close(g.render(edit.apply(in_s, directions, generator=g)), want, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="was inverted in S: a step in w needs the generator"):
        edit.apply(in_s, directions, g.fingerprint)
    half = {name: Masked(v, torch.arange(v.shape[1])[None] % 2 * 1.0) for name, v in values.items()}
    partly = edit.apply(replace(plain, style_values=half), directions, generator=g)
    torch.testing.assert_close(g.render(partly), want, atol=1e-4, rtol=1e-4)
    # A direction in S needs nothing of the kind.
    moved = Edit({"in-s": 1.0}).apply(in_s, directions)
    torch.testing.assert_close(g.render(moved), g.render(Edit({"in-s": 1.0}).apply(plain, directions)))
