"""What every inverter and every recipe of the registries promises, as functions of its kind alone.

``CHECKS`` and ``TRAINING_CHECKS`` are run for each entry by ``test_inverters.py``, and for one that is registered inside a
test: a new method gets them all with no other line.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from flows.render import render_latents
from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.methods.learning import begin_at_mean
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.registry import INVERTERS, RECIPES, AnyRecipe
from ganinv.methods.sfe import Sfe, SfeConfig
from ganinv.store import Store, open_store
from ganinv.training.batches import MixedBatches
from ganinv.training.recipe import Recipe
from ganinv.training.trainer import Trainer
from tasks.engine import Engine, open_pools
from tasks.steps.edit import EditJob, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, run_invert
from tests.garbage import left_in_cycles
from tests.tiny import random_w, tiny_generator

SMALL = {
    "base_channels": 8,
    "pyramid_channels": 8,
    "width": 16,
    "units": 1,
    "max_channels": 32,
    "batch_norm": False,
    "backbone": "small",
    "trunk": "small",
    "code_dim": 8,
}
"""What makes networks small, of those settings that a kind has."""


@dataclass
class World:
    """A generator of 32 pixels, four of its images as files, and a place for stores."""

    folder: Path

    @cached_property
    def generator(self) -> Generator:
        place = self.folder / "generator"
        if not place.exists():
            save_generator(tiny_generator(), str(place))
        return open_generator(str(place))

    @cached_property
    def images(self) -> Tensor:
        """[4, 3, 32, 32] in [-1, 1]."""
        return self.generator.render(Code(w=random_w(self.generator, 4, seed=8))).clamp(-1, 1)

    @cached_property
    def files(self) -> str:
        place = self.folder / "images"
        place.mkdir(exist_ok=True)
        for number, image in enumerate(self.images):
            array = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(array).save(place / f"{number}.png")
        return str(place)

    @cached_property
    def trained(self) -> Inverter:
        """An encoder that has learned a little: what trainings start from that start from one."""
        trainer = trainer_of("psp", self, steps=60)
        for _ in range(60):
            trainer.step()
        with trainer.finished() as network:
            assert isinstance(network, Inverter)
            return network.requires_grad_(False)

    def inverter(self, kind: str) -> Inverter:
        """One of random weights that all act, what it needs included."""
        g, cls = self.generator, INVERTERS[kind]
        needed = needed_of(kind, g)
        torch.manual_seed(5)
        made = cls(validate(cls.Config, cls.Config.for_generator(g, small_of(cls.Config)), kind), g, needed)
        return disturbed(made, 2)


def small_of(config: Any) -> dict[str, Any]:
    """The part of ``SMALL`` that a configuration has."""
    return {name: value for name, value in SMALL.items() if name in config.model_fields}


@torch.no_grad()
def disturbed(inverter: Inverter, seed: int) -> Inverter:
    """The same inverter with its heads moved away from zero, frozen."""
    rng = torch.Generator().manual_seed(seed)
    begin_at_mean(inverter, inverter.generator)
    for parameter in inverter.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=rng))
    return inverter.eval().requires_grad_(False)


def gives_a_code_of_the_generator(kind: str, world: World) -> None:
    g, inverter = world.generator, world.inverter(kind)
    code = inverter(world.images)
    assert code.w.shape == (4, g.num_ws, g.w_dim)
    assert g.synthesize(code).shape == world.images.shape
    assert torch.isfinite(code.w).all()
    moved = inverter(world.images.flip(3))
    assert not torch.equal(moved.w, code.w) or not torch.equal(g.synthesize(moved), g.synthesize(code))


def gives_the_same_again(kind: str, world: World) -> None:
    one, two = (world.generator.synthesize(world.inverter(kind)(world.images)) for _ in range(2))
    assert torch.equal(one, two)


def does_not_depend_on_the_batch(kind: str, world: World) -> None:
    g, inverter = world.generator, world.inverter(kind)
    together = g.synthesize(inverter(world.images))
    for k in range(4):
        alone = g.synthesize(inverter(world.images[k : k + 1]))
        torch.testing.assert_close(alone, together[k : k + 1], atol=2e-4, rtol=1e-3)


def leaves_generator_and_needed_alone(kind: str, world: World) -> None:
    inverter = world.inverter(kind)
    own = {id(p) for p in inverter.parameters()}
    others = [world.generator, *inverter.needed.values()]
    assert not own & {id(p) for other in others for p in other.parameters()}
    assert not [n for n in inverter.state_dict() if n.startswith(("generator", "needed"))]


def leaves_no_tensor_to_the_collector(kind: str, world: World) -> None:
    """Else a run over many images holds those of several batches."""
    inverter, images = world.inverter(kind), world.images
    with torch.no_grad():
        assert not left_in_cycles(lambda: inverter(images))


def is_stored_as_a_folder(kind: str, world: World) -> None:
    inverter, place = world.inverter(kind), str(world.folder / f"folder-{kind}")
    save_inverter(inverter, place, generator=world.generator)
    again = open_inverter(place, generator=world.generator)
    assert type(again) is type(inverter)
    assert again.fingerprint == inverter.fingerprint
    assert torch.equal(again(world.images).w, inverter(world.images).w)


def goes_from_image_to_edited_picture_through_the_store(kind: str, world: World, url: str | None = None) -> None:
    """image -> invert -> Parquet -> a row by DuckDB, renderings of every reader, an edit, measures of it."""
    g, store = world.generator, open_store(url or str(world.folder / f"store-{kind}"))
    save_inverter(world.inverter(kind), f"{store.url}/encoders/mine", generator=g)
    method = world.folder / f"method-{kind}.yaml"
    stages = [{"kind": "encode", "encoder": "mine"}]
    method.write_text(yaml.safe_dump({"name": "mine", "summary": kind, "space": "w+", "stages": stages}))
    generator = str(world.folder / "generator")
    common = {"store": store.url, "generator": generator}
    invert = {**common, "dataset": {"url": world.files}, "method": str(method)}
    direction(store, g)
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_invert(InvertJob.model_validate(invert), pools)["rows"] == 4
        spec = {"name": "up", "directions": {"test": 1.0}, "strengths": [1.0]}
        edit = {**common, "latents": "mine", "edits": [spec], "images": "shards"}
        assert run_edit(EditJob.model_validate(edit), pools)["rows"] == 4
        evaluation = {**common, "latents": "mine", "edits": "edits"}
        results = run_evaluate(EvaluateJob.model_validate(evaluation), pools)
    assert results["latents"]["rows"] == 4
    expected = g.synthesize(world.inverter(kind)(quantised(world.images)))
    if url is None:
        query = f"select image_id, w from '{store.url}/latents/mine/part-*.parquet' order by image_id"
        rows = duckdb.connect().execute(query).fetchall()
        w = torch.tensor(np.array([row[1] for row in rows], np.float32)).reshape(4, g.num_ws, g.w_dim)
        torch.testing.assert_close(w, world.inverter(kind)(quantised(world.images)).w, atol=1e-4, rtol=1e-4)
        render_latents(store.url, "mine", world.folder / f"renders-{kind}", None, generator)
        for k in range(4):
            drawn = np.asarray(Image.open(next((world.folder / f"renders-{kind}").glob(f"{k}*.png")))).astype(
                np.float32
            )
            want = ((expected[k].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
            assert np.abs(drawn - want).max() <= 1.01
    edited = store.edits["edits"].read()
    pictures = torch.stack([to_tensor(png) for png in edited["image_png"].to_pylist()])
    assert pictures.shape == world.images.shape
    assert (pictures - expected.clamp(-1, 1)).abs().max() > 0.02


def to_tensor(png: bytes) -> Tensor:
    """[3, R, R] in [-1, 1]."""
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(png))).copy()).permute(2, 0, 1) / 127.5 - 1


def quantised(images: Tensor) -> Tensor:
    """As files of 8 bits hold them."""
    return ((images + 1) * 127.5).round() / 127.5 - 1


def direction(store: Store, g: Generator) -> None:
    vector = np.random.default_rng(4).normal(size=g.w_dim)
    stored = Direction(
        "test",
        vector / np.linalg.norm(vector),
        space="w",
        generator_name=g.name,
        generator_fingerprint=g.fingerprint,
        method="test",
        unit=2.0,
    )
    store.directions.put(stored)


def recipe_of(kind: str, **other: Any) -> Recipe:
    cls = INVERTERS[kind].Config if kind in INVERTERS else None
    inner = {} if cls is None else small_of(cls)
    if cls is not None and "encoder" in cls.model_fields:
        inner = {"encoder": small_of(PspConfig)}
    given: dict[str, Any] = {
        "kind": kind,
        "steps": 20,
        "batch_size": 4,
        "inverter": inner,
        "losses": {"distance": 0.0},
        "optimizer": {"kind": "muon", "lr": 0.02, "adam_lr": 0.002},
        "validation": {"every": 20, "images": 4},
        "checkpoint_every": 10,
        # Two passes show what several do.
        **({"passes": 2} if "passes" in RECIPES[kind].model_fields else {}),
        **other,
    }
    return validate(AnyRecipe, given, kind)  # type: ignore[type-abstract,arg-type]


def trainer_of(kind: str, world: World, **other: Any) -> Trainer:
    recipe, g = recipe_of(kind, **other), world.generator
    needed = needed_of(kind, g) | {role: world.trained for role in INVERTERS[kind].needs if role == "encoder"}
    batches = MixedBatches(recipe.data, g, recipe.batch_size)
    return Trainer(recipe, lambda: recipe.build(g, needed, None), batches)


def needed_of(kind: str, g: Generator) -> dict[str, Inverter]:
    """What a kind starts from: a pSp in every role, but where a role names an inverter of features."""
    torch.manual_seed(6)
    return {
        role: disturbed(small_sfe(g) if role == "inverter" else Psp(small_psp(g), g), 1)
        for role in INVERTERS[kind].needs
    }


def small_sfe(g: Generator) -> Sfe:
    return Sfe(validate(SfeConfig, SfeConfig.for_generator(g, small_of(SfeConfig)), "needed"), g)


def small_psp(g: Generator) -> PspConfig:
    return validate(PspConfig, PspConfig.for_generator(g, small_of(PspConfig)), "needed")


def training_lowers_the_error_and_beats_the_mean_latent(kind: str, world: World) -> None:
    """The same images before and after: at step 0 an inverter gives the mean latent, or what it starts from."""
    trained = trainer_of(kind, world, optimizer={"kind": "muon", "lr": 0.03, "adam_lr": 0.002})
    mean = world.generator.synthesize(Code(w=world.generator.w_mean.expand(4, world.generator.num_ws, -1)))
    bar = 0.99 * min(trained.validate(world.images).error, float((mean - world.images).square().mean()))
    for _ in range(6):  # most are there after four steps, HFGI's networks after sixteen
        for _ in range(4):
            trained.step()
        if (after := trained.validate(world.images).error) < bar:
            break
    assert after < bar


def training_goes_on_to_the_bit(kind: str, world: World) -> None:
    whole, cut = trainer_of(kind, world), trainer_of(kind, world)
    curve = [whole.step() for _ in range(3)]
    assert cut.step() == curve[0]
    file = io.BytesIO()
    torch.save(cut.state(), file)
    again = trainer_of(kind, world)
    again.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert [again.step() for _ in range(2)] == curve[1:]
    for name, tensor in whole.learner.network.state_dict().items():
        assert torch.equal(tensor, again.learner.network.state_dict()[name]), name


def training_leaves_the_generator_alone(kind: str, world: World) -> None:
    before = world.generator.fingerprint
    trained = trainer_of(kind, world)
    assert isinstance(trained.learner.network, Inverter)
    needed = trained.learner.network.needed
    prints = {role: one.fingerprint for role, one in needed.items()}
    for _ in range(2):
        trained.step()
    assert world.generator.fingerprint == before
    assert {role: one.fingerprint for role, one in needed.items()} == prints


Check = Callable[[str, World], None]

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        gives_a_code_of_the_generator,
        gives_the_same_again,
        does_not_depend_on_the_batch,
        leaves_generator_and_needed_alone,
        leaves_no_tensor_to_the_collector,
        is_stored_as_a_folder,
        goes_from_image_to_edited_picture_through_the_store,
    )
}
TRAINING_CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        training_lowers_the_error_and_beats_the_mean_latent,
        training_goes_on_to_the_bit,
        training_leaves_the_generator_alone,
    )
}
