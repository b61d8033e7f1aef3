"""The papers' own recipes take two steps: on a small generator, on smaller images, measured by networks of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.config import config_names
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.losses.identity import FaceEmbedding
from ganinv.losses.terms import Losses
from ganinv.methods.psp import Psp
from ganinv.methods.registry import load_recipe
from ganinv.methods.restyle import ReStyle
from ganinv.methods.trunks import begin_trunks
from ganinv.networks.adopt import published_name
from ganinv.networks.irse import IRSE50
from ganinv.networks.keymaps import FACE_EMBEDDING, IR_SE_50_TRUNK, RESNET_34_TRUNK
from ganinv.networks.parsing import ParsingTrunk
from ganinv.networks.resnet import ResNet34
from ganinv.networks.resnet50 import ResNet50
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.losses.vgg_file import random_alexnet, write_hub

RECIPES = {
    "ffhq-1024-psp": {},
    "ffhq-1024-psp-super-resolution": {"data.degrade": {"choose": [{"kind": "down", "factors": [1, 4]}]}},
    "ffhq-1024-psp-frontalisation": {},
    "ffhq-1024-e4e": {"progressive_start": 1},
    "cars-512-e4e": {"inverter.input_height": 48, "losses.resolution": [48, 64]},
    "ffhq-1024-restyle-psp": {"passes": 2},
    "ffhq-1024-restyle-e4e": {"passes": 2},
    "ffhq-1024-e2style": {},
    "ffhq-1024-style-transformer": {},
}


@pytest.fixture(scope="module")
def generator() -> Generator:
    """W as wide as in the published ones, images of 64 pixels (AlexNet sees nothing in the faces of smaller ones)."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=64, channels=(16, 16, 8, 8, 8), mapping_layers=2))
    g.measure_w(100)
    return g.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The networks that recipes ask for, by what they are called here; their weights are random."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    face = FaceEmbedding().state_dict()
    names = ("conv1", "conv2", "conv3", "conv4", "center")
    parsing = [(rf"levels\.{i}\.", f"{name}.") for i, name in enumerate(names)]
    states: dict[str, Mapping[str, Tensor]] = {
        "face": {published_name(name, FACE_EMBEDDING): t for name, t in face.items()},
        "parsing": {published_name(name, parsing): t for name, t in ParsingTrunk().state_dict().items()},
        "moco": {f"module.encoder_q.{name}": t for name, t in ResNet50().state_dict().items()},
    }
    for name, state in states.items():
        torch.save({"state_dict": dict(state)} if name == "moco" else dict(state), folder / f"{name}.pth")
    write_hub(folder, random_alexnet(), "alexnet-owt-7be5be79.pth")
    return {name: str(folder / f"{name}.pth") for name in states} | {"hub": str(folder)}


def changes(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The recipe with its files, and on smaller images."""
    found: dict[str, Any] = {"batch_size": 2, "steps": 6 if "e2style" in name else 2, "trunk_weights": files["face"]}
    inside = "inverter.encoder" if "restyle" in name else "inverter"
    found |= {f"{inside}.resolution": 64}
    losses = load_recipe(name).losses
    found |= {"losses.identity_weights": files["face"]} if losses.identity else {}
    found |= {"losses.similarity_weights": files["moco"]} if losses.similarity else {}
    for network in losses.layered:
        found[f"losses.layered_weights.{network}"] = files[network]
    return found | RECIPES[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, generator: Generator, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", files["hub"])
    recipe = load_recipe(name, changes(name, files))
    batches = MixedBatches(recipe.data, generator, recipe.batch_size)
    trainer = Trainer(recipe, lambda: recipe.build(generator, {}, None), batches)
    before = {n: t.clone() for n, t in trainer.learner.network.state_dict().items()}
    for step in (1, 2):
        losses = trainer.step()
        assert losses["step"] == step
        weighed = {"l2", "distance"} | ({"identity"} if recipe.losses.identity else set())
        assert weighed <= losses.keys()
    moved = [n for n, t in trainer.learner.network.named_parameters() if not torch.equal(t, before[n])]
    assert moved


def test_all_of_them_are_read_and_ask_for_their_files(generator: Generator) -> None:
    published = {name for name in config_names("training") if name.startswith(("ffhq-1024-", "cars-512-"))}
    assert set(RECIPES) <= published
    for name in RECIPES:
        recipe = load_recipe(name)
        assert (recipe.optimizer.kind, recipe.data.real_share) == ("ranger", 1.0)
        losses = recipe.losses.model_copy(update={"distance": 0.0, "crop_distance": 0.0})
        with pytest.raises(ConfigError, match=r"set losses\.(identity_weights|similarity_weights|layered_weights)"):
            Losses(losses, generator)


@pytest.mark.seconds
@pytest.mark.parametrize("backbone", ["ir-se-50", "resnet-34"])
def test_trunks_begin_with_a_file(backbone: str, generator: Generator, tmp_path: Path) -> None:
    torch.manual_seed(2)
    small = {
        "resolution": 128,
        "num_ws": 8,
        "w_dim": 512,
        "backbone": backbone,
        "pyramid": False,
        "sees_rendering": True,
    }
    source, rules = (IRSE50(), IR_SE_50_TRUNK) if backbone == "ir-se-50" else (ResNet34(), RESNET_34_TRUNK)
    theirs = {published_name(name, rules): t for name, t in source.state_dict().items()}
    if backbone == "resnet-34":  # as torchvision names it
        del theirs["relu.weight"]
        blocks = [f"layer{s + 1}.{b}" for s, count in enumerate((3, 4, 6, 3)) for b in range(count)]
        flat = {f"body.{i}.": f"{block}." for i, block in enumerate(blocks)}
        theirs = {
            next((new + name.removeprefix(old) for old, new in flat.items() if name.startswith(old)), name): t
            for name, t in theirs.items()
        }
    torch.save(theirs, tmp_path / "trunk.pth")
    with torch.device("meta"):
        restyle = ReStyle(ReStyle.Config.model_validate({"kind": "restyle", "encoder": {"kind": "psp", **small}}))
    trunk = restyle.encoder.backbone.trunk
    restyle.encoder.backbone.trunk = type(trunk)(6)
    trunk = restyle.encoder.backbone.trunk
    stem = trunk.stem[0].weight.clone()
    begin_trunks(restyle, str(tmp_path / "trunk.pth"))
    assert torch.equal(trunk.stem[0].weight[:, :3], source.stem[0].weight)
    assert torch.equal(trunk.stem[0].weight[:, 3:], stem[:, 3:])
    last = [n for n, _ in source.named_parameters()][-1]
    assert torch.equal(trunk.get_parameter(last), source.get_parameter(last))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsRefused, match=r"does not hold a (IRSE50|ResNet34): missing"):
        begin_trunks(restyle, str(tmp_path / "other.pth"))
    with pytest.raises(ConfigError, match="trunk_weights are for an IR-SE-50 or a ResNet-34"):
        begin_trunks(Psp(Psp.Config.model_validate({"resolution": 32, "num_ws": 8, "w_dim": 16})), "nowhere")
