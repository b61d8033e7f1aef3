"""Every method of the fit step, on samples of a tiny generator and scores that see something."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.directions.fitting.registry import METHODS
from ganinv.directions.measuring.calibration import in_score_units
from ganinv.directions.measuring.effects import Start, edited
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, open_labeller
from ganinv.store import Store, open_store
from tasks.engine import Engine, open_pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.label import LabelJob, run_label
from tasks.steps.labelled import StoredSamples
from tasks.steps.sample import SampleJob, run_sample
from tests.tiny import tiny_generator

INLINE = Engine(kind="inline", quiet=True)
FEW = {"bank": 60, "channels": 16, "strengths": (-3.0, -1.0, 1.0, 3.0), "response": 0.2}
CALIBRATION = {"samples": 6, "strengths": (-2.0, -1.0, 1.0, 2.0)}


class Colours(torch.nn.Module):
    """Mean red, and mean green less blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3))
        return torch.stack([5 * mean[:, 0], 5 * (mean[:, 1] - mean[:, 2])], 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 600 samples of a tiny generator, scored by their colours."""
    root = tmp_path_factory.mktemp("fit")
    save_generator(tiny_generator(16), str(root / "tiny"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Colours(), torch.zeros(1, 3, 16, 16)), str(root / "colours.ts"))
    config = {
        "kind": "torchscript",
        "name": "colours",
        "weights": "colours.ts",
        "input": {"size": 16},
        "outputs": {"red": {"column": 0, "positive_means": "is redder"}, "green": {"column": 1}},
    }
    (root / "colours.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    job = SampleJob(
        store=str(root / "store"),
        generator=str(root / "tiny"),
        labeller=str(root / "colours.yaml"),
        count=600,
        truncation_psi=0.9,
        unit_size=250,
    )
    with open_pools(INLINE) as pools:
        run_sample(job, pools)
    return root


@pytest.fixture(scope="module")
def g(root: Path) -> Generator:
    return open_generator(str(root / "tiny"))


@pytest.fixture(scope="module")
def labeller(root: Path) -> Labeller:
    return open_labeller(str(root / "colours.yaml"))


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(str(root / "store"))


def fit(root: Path, name: str, method: str, settings: dict[str, Any], **changes: Any) -> dict[str, Direction]:
    """Fit by one method, and read back what was stored."""
    store = open_store(str(root / "store"))
    given = {"labeller": str(root / "colours.yaml"), "calibration": CALIBRATION, "prefix": f"{name}-"}
    methods = [{"method": method, **settings}]
    job = FitJob.model_validate({"store": store.url, "name": name, "methods": methods, **given, **changes})
    with open_pools(INLINE) as pools:
        assert run_fit(job, pools)["failed"] == 0
    rows = store.collection("fits", name).read().to_pylist()
    return {
        row["image_id"]: store.directions.get(f"{job.prefix}{row['image_id']}", version=row["version"]) for row in rows
    }


def moves(g: Generator, labeller: Labeller, direction: Direction, attribute: str, strength: float) -> float:
    """Mean change of a score."""
    z = torch.randn(16, g.z_dim, generator=torch.Generator().manual_seed(5))
    start = Start.of(g, z, 0.9)
    before = labeller(g.render(Code(w=start.w)))[attribute]
    return float((labeller(g.render(edited(g, direction, start, strength)))[attribute] - before).mean())


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("name", "method", "settings", "space", "found_by"),
    [
        ("svc", "interfacegan", {"tails": 0.2}, "w", "interfacegan-svc"),
        ("ridge", "interfacegan", {"tails": 0.2, "estimator": "ridge"}, "w", "interfacegan-ridge"),
        ("in-z", "interfacegan", {"space": "z", "tails": 0.2, "estimator": "ridge"}, "z", "interfacegan-ridge"),
        ("gradient", "classifier-gradient", {"samples": 24}, "w+", "classifier-gradient"),
        ("channel", "stylespace", FEW, "s", "stylespace"),
    ],
)
def test_every_method_finds_what_moves_the_score(
    root: Path, g: Generator, labeller: Labeller, name: str, method: str, settings: dict, space: str, found_by: str
) -> None:
    found = fit(root, name, method, settings)
    assert set(found) == {"red", "green"}
    for attribute, direction in found.items():
        assert (direction.space, direction.method) == (space, found_by)
        assert direction.name == f"{name}-{attribute}"
        assert direction.labeller == "colours@1"
        calibration = direction.report["calibration"]
        assert calibration["attribute"] == attribute
        assert direction.report["labels"] == {
            "labeller": "colours@1",
            "sha256": labeller.weights_sha256,
            "column": f"score_{attribute}",
        }
        steps = in_score_units(direction) if calibration["unit"] else direction
        assert moves(g, labeller, steps, attribute, 1.0) > 0
        assert moves(g, labeller, steps, attribute, -1.0) < 0
    assert found["red"].positive_means == "is redder"


@pytest.mark.seconds
def test_a_channel_is_chosen_by_what_else_it_changes(root: Path) -> None:
    found = fit(root, "channel", "stylespace", FEW)["red"]
    candidates = found.report["candidates"]
    assert 1 <= len(candidates) <= 16
    assert all(not candidate["layer"].startswith("torgbs") for candidate in candidates)
    measured = [c["dependency"] for c in candidates if c["dependency"]["rises"]]
    reaching = [dependency["mean_ad"] for dependency in measured if dependency["mean_ad"] is not None]
    assert found.report["dependency"]["rises"]
    assert found.report["dependency"]["mean_ad"] == min(reaching)
    assert np.count_nonzero(found.vector) == 1


@pytest.mark.seconds
def test_components_and_factors_are_named_by_what_they_move(root: Path, g: Generator) -> None:
    pca = fit(root, "pca", "ganspace", {"components": 3})
    assert list(pca) == ["pca-00", "pca-01", "pca-02"]
    drawn = fit(root, "drawn", "ganspace", {"components": 2, "samples": 3000})
    features = fit(root, "features", "ganspace", {"components": 2, "activations": "act[1]", "samples": 500})
    factors = fit(root, "sefa", "sefa", {"components": 2, "rows": (1, 2)})
    assert drawn["pca-00"].report["samples"] == 3000
    assert features["pca-01"].report["source"] == "act[1]"
    assert factors["sefa-00"].layers == (1, 3)
    for direction in [*pca.values(), *drawn.values(), *features.values(), *factors.values()]:
        assert set(direction.report["moves"]) == {"red", "green"}
        assert direction.positive_means == "none of the measured attributes" or " " in direction.positive_means
    assert set(pca["pca-00"].report["correlations"]) == {"red", "green"}


@pytest.mark.seconds
def test_several_methods_fit_on_the_same_samples(root: Path) -> None:
    boundary = {"method": "interfacegan", "tails": 0.2, "layers": {"red": (0, 3)}}
    methods = [boundary, {"method": "ganspace", "components": 2, "layers": (1, 4)}]
    found = fit(root, "both", "", {}, methods=methods, attributes=("red",))
    assert list(found) == ["pca-00", "pca-01", "red"]
    assert found["red"].layers == (0, 3)
    assert found["pca-01"].layers == (1, 4)
    with pytest.raises(ConfigError, match="interfacegan and stylespace both make a direction 'red'"):
        fit(root, "twice", "", {}, methods=[{"method": "interfacegan"}, {"method": "stylespace"}])


class Random(DirectionMethod):
    """A method from outside the package."""

    method: Literal["random"] = "random"
    length: float = 2.0

    def names(self, context: FitContext) -> list[str]:
        return [f"random-{name}" for name in context.attributes]

    def fit(self, context: FitContext) -> Fit:
        def one(name: str) -> Direction:
            vector = np.random.default_rng(len(name)).normal(size=context.generator.w_dim).astype(np.float32)
            vector /= np.linalg.norm(vector)
            origin = {key: context.origin[key] for key in ("generator_name", "generator_fingerprint")}
            found = Direction(name, vector, space="w", method="random", unit=self.length, **origin)
            return context.calibrated(found, name.removeprefix("random-"))

        return one


@pytest.mark.seconds
def test_a_method_that_is_registered_is_fitted_and_stored_as_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS, "_homes", dict(METHODS._homes))
    METHODS.register("random", Random)
    found = fit(root, "registered", "random", {"length": 3.0})
    assert list(found) == ["random-green", "random-red"]
    assert found["random-red"].unit == 3.0
    assert found["random-red"].report["calibration"]["attribute"] == "red"
    with pytest.raises(ConfigError, match="there is a direction method 'sefa' already"):
        METHODS.register("sefa", Random)


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_knows_each_method_by_its_own_name(name: str) -> None:
    config = METHODS[name].model_validate({})
    assert config.method == name
    job = FitJob.model_validate({"store": "s", "methods": [{"method": name}]})
    assert job.methods == (config,)
    assert FitJob.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"method": "sefia"}], "unknown direction method 'sefia', did you mean 'sefa'?"),
        ([{"method": "sefa", "component": 3}], r"unknown key 'methods.0.component', did you mean 'components'?"),
        ([{"components": 3}], "expected a mapping with method: one of interfacegan, "),
        ([], "methods: Tuple should have at least 1 item"),
    ],
)
def test_a_method_that_cannot_be_is_named(methods: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(FitJob, {"store": "s", "methods": methods}, "fit")


def test_of_wrong_items_their_list_is_not_said_to_be_empty() -> None:
    with pytest.raises(ConfigError) as error:
        validate(FitJob, {"store": "s", "methods": [{"method": "sefa", "component": 3}]}, "fit")
    assert str(error.value) == "fit: unknown key 'methods.0.component', did you mean 'components'?"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": 100_000}, "at most 16 components, got 100000"),
        ({"components": 0}, "there is no direction to fit"),
    ],
)
def test_components_that_cannot_be_are_refused_before_the_run(
    root: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(root, "impossible", "ganspace", settings)
    assert "impossible" not in open_store(str(root / "store")).list("fits")


@pytest.mark.seconds
def test_conditions_are_projected_out_in_every_space(root: Path) -> None:
    for name, space in (("cond-w", "w"), ("cond-z", "z")):
        given = {"space": space, "tails": 0.2, "estimator": "ridge"}
        off = {"calibration": {"samples": 0}}
        plain = fit(root, name, "interfacegan", given, **off)
        held = fit(root, f"{name}-held", "interfacegan", {**given, "conditions": {"red": ("green",)}}, **off)["red"]
        assert abs(held.vector @ plain["green"].vector) < 1e-5
        assert held.report["conditions"] == ["green"]
        assert "calibration" not in held.report


@pytest.mark.seconds
def test_conditions_by_gradient_hold_the_mean_score_still(root: Path, g: Generator, labeller: Labeller) -> None:
    given = {"tails": 0.2, "estimator": "ridge", "layers": {"red": (1, 4)}}
    plain = fit(root, "free", "interfacegan", given)["red"]
    given |= {"conditions": {"red": ("green",)}, "conditions_by": "gradient", "gradient_samples": 48}
    held = fit(root, "held", "interfacegan", given)["red"]
    assert held.report["conditions_by"] == "gradient"
    assert held.layers == (1, 4)
    before, after = (moves(g, labeller, d, "green", 0.2) for d in (plain, held))
    assert abs(after) < 0.3 * abs(before)
    assert moves(g, labeller, held, "red", 0.2) > 0.3 * moves(g, labeller, plain, "red", 0.2) > 0
    with pytest.raises(ConfigError, match="take space w, or conditions_by: boundary"):
        fit(root, "held-z", "interfacegan", {**given, "space": "z"})


@pytest.mark.seconds
def test_scores_of_another_labeller_and_of_a_table(root: Path, g: Generator, store: Store) -> None:
    samples = store.samples["samples"].read(["image_id", "score_red"])
    ids, red = samples["image_id"].to_pylist(), samples["score_red"].to_numpy()
    rows = "\n".join(f"{i},{int(value > np.median(red))}" for i, value in zip(ids[:500], red[:500], strict=True))
    (root / "labels.csv").write_text(f"image_id,warm\n{rows}\n")
    (root / "table.yaml").write_text(yaml.safe_dump({"kind": "table", "name": "mine", "path": "labels.csv"}))
    with open_pools(INLINE) as pools:
        given = {"store": store.url, "generator": str(root / "tiny"), "unit_size": 130}
        run_label(LabelJob(**given, name="warm", labeller=str(root / "table.yaml")), pools)
    left = {"tails": 100, "missing": "leave out", "bootstrap": 0}
    found = fit(root, "by-hand", "interfacegan", left, labels="warm")["warm"]
    plain = fit(root, "by-net", "interfacegan", left)["red"]
    assert found.labeller == "mine@1"
    assert found.report["left_out"] == 100
    assert found.vector @ plain.vector > 0.5
    assert "calibration" not in found.report  # nobody who sees images knows this attribute
    with pytest.raises(ConfigError, match="no score of 'hot'; there are: warm"):
        fit(root, "unknown", "interfacegan", left, labels="warm", attributes=("hot",))


@pytest.mark.seconds
def test_codes_in_w_plus(root: Path, g: Generator, labeller: Labeller, store: Store) -> None:
    """Inverted images have a w per row: their boundaries are fitted flat, on labels of their renderings."""
    from ganinv.records import code_to_table
    from ganinv.store import Plan

    w = torch.stack(
        [g.map(torch.randn(80, g.z_dim, generator=torch.Generator().manual_seed(i)))[:, 0] for i in range(g.num_ws)], 1
    )
    ids = [f"photo-{i:03d}" for i in range(80)]
    origin = {"code_version": "0", "generator_name": g.name, "generator_fingerprint": g.fingerprint}
    collection = store.latents["photos"]
    collection.start(Plan.of("invert", {"generator": g.fingerprint}, origin, ids, 40))
    for unit in collection.plan().units:
        rows = [ids.index(i) for i in unit.ids]
        collection.write_part(unit.index, code_to_table(Code(w=w[rows]), list(unit.ids), collection), [], {})
    collection.finish()
    with open_pools(INLINE) as pools:
        given = {"store": store.url, "generator": str(root / "tiny"), "samples": "photos", "source": "latents"}
        run_label(LabelJob(**given, name="photos", labeller=str(root / "colours.yaml")), pools)
    scores = store.collection("labels", "photos").read()
    expected = labeller(g.render(Code(w=w)))["red"].numpy()
    np.testing.assert_allclose(scores["score_red"].to_numpy(), expected, atol=1e-5)
    flat = {"tails": 0.4, "estimator": "linear-svc", "bootstrap": 0, "space": "w+"}
    given = {"samples": "photos", "source": "latents", "labels": "photos"}
    with pytest.raises(GeneratorMismatch, match="portraits-64"):  # no generator named: the embedded one is not theirs
        fit(root, "flat", "interfacegan", flat, **given)
    given["generator"] = str(root / "tiny")
    found = fit(root, "flat", "interfacegan", flat, **given)["red"]
    assert (found.space, found.vector.shape) == ("w+", (g.num_ws, g.w_dim))
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)
    assert moves(g, labeller, found, "red", 1.0) > 0
    with pytest.raises(ConfigError, match=r"take the space w\+ \(--space w"):
        fit(root, "flat-w", "interfacegan", {**flat, "space": "w"}, **given)
    with pytest.raises(ConfigError, match="source: latents"):
        fit(root, "flat-samples", "interfacegan", flat)
    with pytest.raises(ConfigError, match=r"take none \(--components 0\)"):
        fit(root, "flat-components", "ganspace", {}, **given)
    with pytest.raises(ConfigError, match="have no z"):
        StoredSamples(collection, store.collection("labels", "photos"), "z", g.z_dim)


def test_z_is_drawn_again(root: Path, g: Generator, store: Store) -> None:
    in_z = StoredSamples(store.samples["samples"], space="z", z_dim=g.z_dim)
    in_w = StoredSamples(store.samples["samples"])
    z = np.concatenate([block.latents for block in in_z.blocks("red", latents=True)])
    w = np.concatenate([block.latents for block in in_w.blocks("red", latents=True)])
    with torch.no_grad():
        np.testing.assert_allclose(g.map(torch.from_numpy(z))[:, 0].numpy(), w, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [{"tails": 0.05}, {"tails": 0.05, "estimator": "ridge"}],
    ids=["svc", "ridge"],
)
def test_scores_that_cannot_be_fitted_are_named_and_the_others_are_fitted(root: Path, store: Store, how: dict) -> None:
    """Bad input of a user's own table, as the step meets it: constant, ten positives, missing, and one good column."""
    name = how.get("estimator", "svc")
    samples = store.samples["samples"].read(["image_id", "score_red"])
    red = samples["score_red"].to_numpy()
    ten = red >= np.sort(red)[-10]
    columns = zip(samples["image_id"].to_pylist(), red, ten, strict=True)
    rows = [f"{i},1,{int(t)},{'' if n < 7 else r},{r}" for n, (i, r, t) in enumerate(columns)]
    (root / f"{name}.csv").write_text("\n".join(["image_id,always,hat,gaps,warm", *rows]))
    config = {"kind": "table", "name": "mine", "path": f"{name}.csv"}
    (root / f"{name}.yaml").write_text(yaml.safe_dump(config))
    given = {"store": store.url, "name": f"bad-{name}"}
    with open_pools(INLINE) as pools:
        run_label(LabelJob(**given, generator=str(root / "tiny"), labeller=str(root / f"{name}.yaml")), pools)
        methods = [{"method": "interfacegan", **how}]
        job = FitJob.model_validate({**given, "labels": f"bad-{name}", "prefix": f"bad-{name}-", "methods": methods})
        result = run_fit(job, pools)
    assert (result["failed"], len(result["not_fitted"])) == (3, 3)
    fits = store.collection("fits", f"bad-{name}")
    assert fits.read()["image_id"].to_pylist() == ["warm"]
    errors = {row["image_id"]: (row["code"], row["message"]) for row in fits.errors().to_pylist()}
    for attribute, message in (
        ("always", "'always'.*(overlap|all the same|constant)"),
        ("hat", "'hat'.*only 10 samples score above 0.*rarer than the tails"),
        ("gaps", "'gaps'.*7 of 600 scores are NaN"),
    ):
        code, text = errors[attribute]
        assert code == "not_fitted"
        assert re.search(message, text), text
