"""The edit step on stored inversions, in every space: what is stored, rendered, evaluated and reported is one thing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from ganinv.codes.code import Code, LowRank, Segments
from ganinv.directions.direction import UNVERIFIED, Direction
from ganinv.editing import Edit
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.metrics import EvaluationProtocol, evaluate_edit
from ganinv.records import code_to_table, table_to_code
from ganinv.report.images import pixels, read_codes
from ganinv.store import Plan, Store, open_store
from tasks.engine import Engine, open_pools
from tasks.steps.edit import EditJob, EditSpec, EditWorker, run_edit
from tasks.steps.evaluate import EditMetricsWorker, EvaluateJob

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator("portraits-64")


def direction(g: Generator, name: str, seed: int, size: int, **more: Any) -> Direction:
    vector = np.random.default_rng(seed).normal(size=size)
    given = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test", "unit": 2.0}
    return Direction(name, vector / np.linalg.norm(vector), **{"space": "w", **given, **more})  # type: ignore[arg-type]


@pytest.fixture
def store(g: Generator, tmp_path: Path) -> Store:
    """Three inversions with z and tuned weights, and a direction in every space."""
    store = open_store(str(tmp_path / "store"))
    width = g.synthesis.get_parameter("convs.1.weight").shape
    r = torch.Generator().manual_seed(0)
    z = torch.randn(3, g.z_dim, generator=r)
    tuned = LowRank(torch.randn(3, width[0], 1, generator=r), 0.1 * torch.randn(3, 1, width[1:].numel(), generator=r))
    code = Code(
        w=g.map(z), z=z, weights={"convs.1.weight": tuned}, styles={"convs.2": torch.ones(3, _width(g, "convs.2"))}
    )
    fill(store, g, "inverted", code)
    layers = (("convs.2", _width(g, "convs.2")), ("convs.4", _width(g, "convs.4")))
    for d in (
        direction(g, "in-w", 0, g.w_dim),
        direction(g, "pca-01", 1, g.w_dim),
        direction(g, "in-z", 2, g.z_dim, space="z"),
        direction(g, "in-s", 3, sum(w for _, w in layers), space="s", style_layers=layers),
        direction(g, "in-w", 4, g.w_dim),
        direction(g, "stated", 5, g.w_dim, generator_fingerprint=UNVERIFIED, generator_resolution=64),
    ):
        store.directions.put(d)
    return store


def fill(store: Store, g: Generator, name: str, code: Code) -> None:
    collection = store.latents[name]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    collection.start(Plan.of("invert", {"name": name}, origin, IDS, 3))
    table = code_to_table(code, IDS, collection).append_column("space", pa.array(["w+"] * 3))
    collection.write_part(0, table, [], {})
    collection.finish()


def _width(g: Generator, layer: str) -> int:
    return next(module.weight.shape[1] for name, module, _ in g.synthesis.layers() if name == layer)


def run(store: Store, specs: list[dict[str, Any]], **more: Any) -> pa.Table:
    job = EditJob(store=store.url, edits=tuple(EditSpec(**s) for s in specs), **{"latents": "inverted", **more})
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_edit(job, pools)
    return store.edits[job.name].read()


SPECS: list[dict[str, Any]] = [
    {"name": "rows", "directions": {"in-w@1(0-3)": 1.0, "E(v1,4-7)": -2.0}, "strengths": (0.5, 2.0)},
    {"name": "newest", "directions": {"in-w": 1.0}, "strengths": (1.0,), "conditions": ("pca-01",)},
    {"name": "styles", "directions": {"in-s": 1.0, "in-w(2)": 1.0}, "strengths": (-3.0, 3.0)},
    {"name": "z", "directions": {"in-z": 1.0}, "strengths": (1.0,)},
    {"name": "trusted", "directions": {"stated": 1.0}, "strengths": (1.0,), "trust": ("stated",)},
]


def expected(store: Store, g: Generator, table: pa.Table, row: int) -> Code:
    """What ``Edit`` makes of the stored inversion."""
    spec = next(s for s in SPECS if s["name"] == table["edit"][row].as_py())
    code = table_to_code(store.latents["inverted"].read(ids=[table["image_id"][row].as_py()]), store)
    strength = table["strength"][row].as_py()
    weights = {name: strength * weight for name, weight in spec["directions"].items()}
    return Edit(weights, spec.get("conditions"), spec.get("trust", ())).apply(code, store, generator=g)


@pytest.mark.seconds
def test_rows_are_what_edit_makes_of_the_stored_inversions(store: Store, g: Generator) -> None:
    table = run(store, SPECS, images="files")
    assert table.num_rows == 3 * 7
    for row in range(table.num_rows):
        want = expected(store, g, table, row)
        back = table_to_code(table, store, [row])
        torch.testing.assert_close(back.w, want.w, atol=1e-6, rtol=1e-6)
        assert back.styles is not None
        assert want.styles is not None
        assert back.styles.keys() == want.styles.keys()
        for name, style in want.styles.items():
            torch.testing.assert_close(back.styles[name], style, atol=1e-5, rtol=1e-5)
        image = pixels(g.render(want))[0]
        edit, strength, image_id = (table[c][row].as_py() for c in ("edit", "strength", "image_id"))
        png = Path(store.edits["edits"].url) / "images" / edit / f"{strength:+.2f}" / f"{image_id}.png"
        stored = np.asarray(Image.open(io.BytesIO(png.read_bytes()))).astype(int)
        assert np.abs(stored - image).max() <= 1
    layers = table.filter(pc.equal(table["edit"], "styles"))["style_offsets"][0].as_py()
    assert [layer["layer"] for layer in layers] == ["convs.2", "convs.4"]
    assert table.filter(pc.equal(table["edit"], "z"))["style_offsets"].null_count == 3


@pytest.mark.seconds
def test_the_report_and_the_evaluation_see_the_styles(store: Store, g: Generator) -> None:
    table = run(store, SPECS[2:3])
    shown = read_codes(store.edits["edits"], ["a"])
    assert shown is not None
    back = table_to_code(shown, store, [0])
    assert torch.equal(back.styles["convs.4"], table_to_code(table, store, [0]).styles["convs.4"])  # type: ignore[index]
    code = table_to_code(store.latents["inverted"].read(ids=["a"]), store)
    images = g.render(Edit({"in-s": 3.0, "in-w(2)": 3.0}).apply(code, store, generator=g))
    want = evaluate_edit(g.render(code), images, open_labeller("portraits-64"))
    job = EvaluateJob(store=store.url, latents="inverted", edits="edits")
    ((_, rows),) = EditMetricsWorker(job, EvaluationProtocol()).process(["a"])
    got = next(values for edit, strength, values in rows if strength == 3.0)
    for name, values in want.items():
        assert got[name] == pytest.approx(float(values[0]), abs=1e-3), name


def test_edits_in_w_alone_have_no_column_of_styles_and_read_no_weights(
    store: Store,
) -> None:
    for extras in Path(store.latents["inverted"].url).glob("extras/*"):
        extras.unlink()
    table = run(store, SPECS[:2])
    assert "style_offsets" not in table.schema.names
    assert table.num_rows == 9


def test_a_new_version_during_the_run_does_not_mix_in(store: Store, g: Generator) -> None:
    table = run(store, SPECS[1:2])
    store.directions.put(direction(g, "in-w", 9, g.w_dim))
    job = EditJob(store=store.url, latents="inverted", edits=(EditSpec(**SPECS[1]),))
    (edited,) = EditWorker(job).process(["a"])
    assert edited["w"][0].equals(table["w"][0])


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"directions": {"smle": 1}}, ConfigError, "unknown direction 'smle', did you mean 'smile'.; there are: "),
        ({"directions": {"in-w@7": 1}}, ConfigError, "no version 7; there are: 1, 2"),
        ({"directions": {"in-w(8-11)": 1}}, ConfigError, "to move rows 8 to 11 of w, and this code has rows 0 to 9"),
        ({"directions": {"stated": 1}}, GeneratorMismatch, "'stated' was imported for .* without its weights"),
        ({"directions": {"in-s(0-3)": 1}}, ConfigError, "has no rows of W"),
        ({"directions": {"in-s": 1}, "conditions": ["in-w"]}, ConfigError, "cannot be made orthogonal to 'in-w'"),
        ({"directions": {"in-w(": 1}}, ConfigError, "does not name a direction"),
        ({"directions": {"in-w": 1e39}}, ConfigError, "edit 'x' is too strong: the latent is no longer a number"),
        ({"directions": {"in-w": 1}, "strengths": (0, 1e39)}, ConfigError, "edit 'x' is too strong"),
        ({"directions": {"in-w": 1}, "segment": "mouth"}, ConfigError, "no image of latents 'inverted' has segments"),
        ({"directions": {"wrong-s": 1}}, ConfigError, r"edit 'x' is not for generator 'portraits-64'.*convs\.99"),
    ],
)
def test_mistakes_stop_the_step_before_it_starts(
    store: Store, g: Generator, spec: dict[str, Any], error: type[Exception], message: str
) -> None:
    store.directions.put(direction(g, "wrong-s", 1, 8, space="s", style_layers=(("convs.99", 8),)))
    with pytest.raises(error, match=message):
        run(store, [{"name": "x", **spec}])
    assert "edits" not in store.edits


def test_an_inversion_without_z_is_named(store: Store, g: Generator) -> None:
    fill(store, g, "no-z", Code(w=g.map(torch.zeros(3, g.z_dim))))
    with pytest.raises(ConfigError, match="'in-z' lives in z, and this code has no z"):
        run(store, SPECS[3:4], latents="no-z")


@pytest.mark.seconds
def test_an_edit_of_one_segment_is_one_thing_everywhere(store: Store, g: Generator) -> None:
    """Stored, rendered, read back for the report and evaluated; the other segment's pixels and its latent stay."""
    w = g.map(torch.randn(3, g.z_dim, generator=torch.Generator().manual_seed(1)))
    masks = torch.zeros(3, 2, 1, 64, 64)
    masks[:, 0, :, :40] = masks[:, 1, :, 40:] = 1
    masks[2, 0], masks[2, 1] = 1, 0  # the third image has no mouth: nothing is stored for it
    code = Code(w, segments=Segments(masks, 0.1 * torch.randn(3, 2, *w.shape[1:]), names=("top", "mouth")))
    fill(store, g, "chunky", code)
    specs: list[dict[str, Any]] = [
        {"name": "w", "directions": {"in-w": 1.0}, "strengths": (3.0,), "segment": "mouth"},
        {"name": "s", "directions": {"in-s": 1.0}, "strengths": (3.0,), "segment": "mouth"},
        {"name": "all", "directions": {"in-w": 1.0}, "strengths": (3.0,)},
    ]
    table = run(store, specs, images="files", latents="chunky", name="chunky")
    original = table_to_code(store.latents["chunky"].read(), store)
    found: dict[tuple[str, str], torch.Tensor] = {}
    for row in range(table.num_rows):
        image_id, edit = table["image_id"][row].as_py(), table["edit"][row].as_py()
        spec = next(s for s in specs if s["name"] == edit)
        before = original[IDS.index(image_id)]
        back = table_to_code(table, store, [row])
        found[image_id, edit] = image = g.render(back)
        path = f"edits/chunky/images/{edit}/+3.00/{image_id}.png"
        stored = np.asarray(Image.open(io.BytesIO(store.objects.read(path)))).astype(int)
        assert np.abs(stored - pixels(image)[0].astype(int)).max() <= 1
        if image_id == "c" and spec.get("segment"):
            torch.testing.assert_close(image, g.render(before), atol=1e-5, rtol=0)
            continue
        want = Edit(dict.fromkeys(spec["directions"], 3.0), segment=spec.get("segment")).apply(
            before, store, generator=g
        )
        torch.testing.assert_close(image, g.render(want), atol=1e-4, rtol=0)
        change = image - g.render(before)
        assert change[:, :, 40:].abs().max() > 0.02
        if spec.get("segment"):
            torch.testing.assert_close(back.segment("top").w, before.segment("top").w, atol=1e-6, rtol=0)
            assert change[:, :, :40].abs().max() < 1e-4
    job = EvaluateJob(store=store.url, latents="chunky", edits="chunky")
    ((_, rows),) = EditMetricsWorker(job, EvaluationProtocol()).process(["a"])
    labeller = open_labeller("portraits-64")
    for edit, _, got in rows:
        for name, values in evaluate_edit(g.render(original[0]), found["a", edit], labeller).items():
            assert got[name] == pytest.approx(float(values[0]), abs=1e-3), (edit, name)
    shown = read_codes(store.edits["chunky"], ["a"], ["edit"])
    assert shown is not None
    for row, edit in enumerate(shown["edit"].to_pylist()):
        torch.testing.assert_close(g.render(table_to_code(shown, store, [row])), found["a", edit], atol=1e-5, rtol=0)


def calibrated_direction(g: Generator) -> Direction:
    """Fewer smiles: the mean gradient of the score, with the calibration that a fit records."""
    labeller = open_labeller("portraits-64")
    w = g.map(torch.randn(16, g.z_dim, generator=torch.Generator().manual_seed(3)), truncation_psi=0.7).clone()
    labeller.score(g.synthesize(Code(w=w.requires_grad_())))["smile"].sum().backward()
    assert w.grad is not None
    calibration = {"attribute": "smile", "labeller": labeller.identity, "score_std": 2.0, "strength": 1.0}
    made = direction(g, "smile", 0, g.w_dim, unit=1.0)
    vector = w.grad.sum((0, 1)).numpy()
    report = {"calibration": {**calibration, "response_per_step": 1.0}}
    return replace(made, vector=vector / np.linalg.norm(vector), report=report)


@pytest.mark.seconds
def test_a_strength_stated_as_the_change_of_a_score_is_found_for_every_image(store: Store, g: Generator) -> None:
    store.directions.put(calibrated_direction(g))
    fill(store, g, "plain", Code(w=g.map(torch.randn(3, g.z_dim, generator=torch.Generator().manual_seed(0)))))
    specs: list[dict[str, Any]] = [
        {"name": "calm", "directions": {"smile": "-0.5sd"}, "strengths": (1.0, 0.4)},
        {"name": "far", "directions": {"smile": "-50sd"}, "strengths": (1.0,)},
        {"name": "step", "directions": {"smile": -1.0}, "strengths": (1.0,)},
    ]
    labeller = open_labeller("portraits-64")
    for name in ("inverted", "plain"):  # with tuned weights, and without
        original = table_to_code(store.latents[name].read(), store)
        before = labeller(g.render(original))["smile"]
        table = run(store, specs, latents=name, name=name)
        assert table.num_rows == 12
        strengths = set()
        for row in table.to_pylist():
            if row["edit"] == "step":
                assert (row["found_strength"], row["response"], row["outcome"]) == (None, None, None)
                continue
            k = IDS.index(row["image_id"])
            edited = Edit({"smile": row["found_strength"]}).apply(original[k], store, generator=g)
            np.testing.assert_allclose(row["w"], edited.w.flatten(), atol=1e-5)
            change = float(labeller(g.render(edited))["smile"] - before[k]) / 2.0
            assert change == pytest.approx(row["response"], abs=2e-3)
            if row["edit"] == "far":
                assert row["outcome"] == "out_of_reach"
            else:
                assert row["outcome"] == "reached"
                assert change == pytest.approx(-0.5 * row["strength"], rel=0.03)
                strengths.add(row["found_strength"])
        assert len(strengths) == 6
    job = EditJob(store=store.url, latents="plain", edits=tuple(EditSpec(**s) for s in specs), name="plain")
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_edit(job, pools)["outcomes"] == {"reached": 6, "out_of_reach": 3}
    seen = EvaluateJob(store=store.url, latents="plain", edits="plain")
    ((_, rows),) = EditMetricsWorker(seen, EvaluationProtocol()).process(["a"])
    got = {(edit, strength): v["score_smile"] - v["score_smile_before"] for edit, strength, v in rows}
    assert got["calm", 1.0] == pytest.approx(-1.0, rel=0.05)


def test_plans_of_edits_with_numbers_do_not_know_of_calibration(store: Store) -> None:
    run(store, SPECS[1:2])
    assert not {"labeller", "search"} & store.edits["edits"].plan().config.keys()
    assert store.edits["edits"].plan().config["edits"][0]["directions"] == {"in-w": 1.0}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"directions": {"in-w": "1sd"}}, "follows the score of 'in-w', which labeller portraits-64@1 does not have"),
        ({"directions": {"in-w": "1sd:smile"}}, "was not calibrated by labeller portraits-64@1 for it"),
        ({"directions": {"smle": "1sd"}}, "unknown direction 'smle'"),
    ],
)
def test_what_cannot_be_calibrated_stops_the_step_before_it_starts(
    store: Store, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(store, [{"name": "x", **spec}])
    assert "edits" not in store.edits


@pytest.mark.parametrize("weights", [{"a": "1std"}, {"a": "1sd", "b": "1sd"}, {"a": "nan"}])
def test_weights_that_are_no_strength(weights: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected a number, or a change|one weight of an edit can be"):
        EditSpec(name="x", directions=weights)
