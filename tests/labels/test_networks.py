"""Classifiers by configuration: TorchScript, ONNX, torchvision, timm."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from torch import Tensor, nn

from ganinv.config import config_names, config_path
from ganinv.errors import ConfigError, DataError, WeightsRefused
from ganinv.labels import Labeller, NetworkLabeller, open_labeller
from ganinv.labels.base import Attribute
from ganinv.labels.configs import KINDS, LabellerKind, read_labeller_config
from ganinv.labels.graphs import read_graph
from ganinv.labels.inputs import InputSpec
from ganinv.labels.outputs import Output
from ganinv.labels.published_tables import CELEBA_40


class Classifier(nn.Module):
    """Batch normalisation and a pooled head: what depends on its neighbours unless it is in evaluation mode."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).mean((2, 3)))
        return out


@pytest.fixture
def net() -> Classifier:
    torch.manual_seed(0)
    net = Classifier(4)
    net(torch.randn(16, 3, 32, 32))  # statistics that are not the identity
    return net.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def write(folder: Path, **config: Any) -> str:
    path = folder / "labeller.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "version": 3, **config}, sort_keys=False))
    return str(path)


def scripted(net: nn.Module, path: Path, side: int = 32) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, torch.zeros(2, 3, side, side)), str(path))
    return path


INPUT = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def expected_rows(net: nn.Module, images: Tensor) -> Tensor:
    mean, std = torch.tensor(INPUT["mean"])[:, None, None], torch.tensor(INPUT["std"])[:, None, None]
    with torch.no_grad():
        return net((nn.functional.avg_pool2d((images + 1) / 2, 2) - mean) / std)


@pytest.mark.parametrize("name", config_names("labellers"))
def test_every_shipped_configuration_is_valid(name: str) -> None:
    config = read_labeller_config(config_path("labellers", name))
    assert config.name
    assert config.version == 1


def test_torchscript_gives_named_scores_with_provenance(tmp_path: Path, net: Classifier, images: Tensor) -> None:
    file = scripted(net, tmp_path / "net.ts")
    outputs = {
        "smile": {"column": 2, "positive_means": "smiles"},
        "young": {"column": 0, "scale": -1, "offset": 0.5},
        "odds": {"pair": [1, 3]},
        "chance": {"pair": [1, 3], "kind": "probability"},
        "age": {"bins": [0, 4], "kind": "years"},
    }
    labeller = open_labeller(write(tmp_path, kind="torchscript", weights="net.ts", input=INPUT, outputs=outputs))
    scores, rows = labeller(images), expected_rows(net, images)
    torch.testing.assert_close(scores["smile"], rows[:, 2])
    torch.testing.assert_close(scores["young"], 0.5 - rows[:, 0])
    torch.testing.assert_close(scores["odds"], rows[:, 3] - rows[:, 1])
    torch.testing.assert_close(scores["chance"], rows[:, [1, 3]].softmax(1)[:, 1])
    torch.testing.assert_close(scores["age"], rows.softmax(1) @ torch.arange(4.0))
    assert labeller.identity == "mine@3"
    assert labeller.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert labeller.attributes["smile"].positive_means == "smiles"
    assert [labeller.attributes[k].kind for k in outputs] == ["logit", "logit", "logit", "probability", "years"]
    assert labeller.provenance["input"]["size"] == 32
    assert labeller.provenance["outputs"]["young"]["scale"] == -1


def test_scores_do_not_depend_on_the_batch_and_have_gradients(tmp_path: Path, net: Classifier, images: Tensor) -> None:
    """docs/methods/attribute-labelling.md, check 3."""
    scripted(net, tmp_path / "net.ts")
    labeller = open_labeller(write(tmp_path, kind="torchscript", weights="net.ts", input=INPUT, outputs=["a", "b"]))
    whole = labeller(images)
    for size in (1, 2):
        parts = [labeller(part) for part in images.split(size)]
        for name, values in whole.items():
            assert (torch.cat([part[name] for part in parts]) - values).abs().max() < 1e-5
    leaf = images.clone().requires_grad_()
    labeller.score(leaf)["a"].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0


def test_heads_are_laid_side_by_side() -> None:
    class Heads(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x.mean((2, 3)), x.amax((2, 3))]

    outputs = {"red": Output(column=0), "peak": Output(column=5)}
    labeller = NetworkLabeller(
        Heads(), name="n", version=1, weights_sha256="", spec=InputSpec(size=8), outputs=outputs, numbers="values"
    )
    images = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(labeller(images)["peak"], images[:, 2].amax((1, 2)))
    torch.testing.assert_close(labeller(images)["red"], images[:, 0].mean((1, 2)))


def test_a_graph_from_elsewhere_must_be_pinned(tmp_path: Path, net: Classifier) -> None:
    import fsspec

    content = scripted(net, tmp_path / "net.ts").read_bytes()
    with fsspec.open("memory://labellers/net.ts", "wb") as file:
        file.write(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with pytest.raises(WeightsRefused, match=f"program that would be executed.*{sha256}"):
        read_graph("memory://labellers/net.ts", None)
    assert read_graph("memory://labellers/net.ts", sha256) == (content, sha256)
    with pytest.raises(WeightsRefused, match="another file"):
        read_graph("memory://labellers/net.ts", "0" * 64)
    with pytest.raises(WeightsRefused, match="another file"):
        read_graph(str(tmp_path / "net.ts"), "0" * 64)


def test_wrong_files_and_columns_are_named(tmp_path: Path, net: Classifier, images: Tensor) -> None:
    (tmp_path / "net.ts").write_bytes(b"<html>too many requests</html>")
    given: dict[str, Any] = {"kind": "torchscript", "weights": "net.ts", "input": INPUT, "outputs": ["a"]}
    with pytest.raises(WeightsRefused, match="not a TorchScript archive"):
        open_labeller(write(tmp_path, **given))
    with pytest.raises(WeightsRefused, match="no file"):
        open_labeller(write(tmp_path, **{**given, "weights": "other.ts"}))
    scripted(net, tmp_path / "net.ts")
    labeller = open_labeller(write(tmp_path, **{**given, "outputs": {"a": {"column": 4}}}))
    with pytest.raises(WeightsRefused, match="'a' is read from output 4, its network has 4 outputs"):
        labeller(images)
    with pytest.raises(DataError, match=r"\[B, 3, R, R\]"):
        labeller(None)
    for outputs, message in [({"a": {}}, "exactly one of column"), ({"a": {"colunm": 1}}, "did you mean 'column'")]:
        with pytest.raises(ConfigError, match=message):
            open_labeller(write(tmp_path, **{**given, "outputs": outputs}))
    with pytest.raises(ConfigError, match="torchscript"):
        open_labeller(write(tmp_path, **{**given, "kind": "keras"}))


def test_onnx_is_the_same_network(tmp_path: Path, net: Classifier, images: Tensor) -> None:
    pytest.importorskip("onnxruntime", reason="install ganinv[labellers] to run this test")
    onnx = pytest.importorskip("onnx", reason="writing an ONNX file needs the package onnx")
    for batch, name in (("batch", "free.onnx"), (2, "fixed.onnx")):
        onnx.save(onnx_classifier(onnx, net, batch), tmp_path / name)
        given = {"kind": "onnx", "weights": name, "input": INPUT, "outputs": ["a", "b", "c", "d"]}
        labeller = open_labeller(write(tmp_path, **given))
        scores, rows = labeller(images), expected_rows(net, images)
        torch.testing.assert_close(torch.stack(list(scores.values()), 1), rows, atol=1e-4, rtol=1e-4)
        assert not labeller.differentiable
        assert labeller.weights_sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    (tmp_path / "bad.onnx").write_bytes(b"no onnx")
    with pytest.raises(WeightsRefused, match="not an ONNX file"):
        open_labeller(write(tmp_path, kind="onnx", weights="bad.onnx", input=INPUT, outputs=["a"]))


def onnx_classifier(onnx: Any, net: Classifier, batch: int | str) -> Any:
    """The classifier written node by node: torch's own exporter needs more packages."""
    conv, norm = net.body[0], net.body[1]
    values = {
        "cw": conv.weight, "cb": conv.bias, "g": norm.weight, "b": norm.bias, "m": norm.running_mean,
        "v": norm.running_var, "hw": net.head.weight, "hb": net.head.bias,
    }  # fmt: skip
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "cw", "cb"], ["c"], strides=[2, 2]),
        make("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], epsilon=norm.eps),
        make("Relu", ["n"], ["r"]),
        make("GlobalAveragePool", ["r"], ["p"]),
        make("Flatten", ["p"], ["f"]),
        make("Gemm", ["f", "hw", "hb"], ["y"], transB=1),
    ]
    described = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [batch, 3, 32, 32]), ("y", [batch, 4]))
    ]
    weights = [onnx.numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in values.items()]
    graph = onnx.helper.make_graph(nodes, "classifier", described[:1], described[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def test_onnx_without_the_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"onnxruntime.*ganinv\[labellers\]"):
        open_labeller(write(tmp_path, kind="onnx", weights="net.onnx", input=INPUT, outputs=["a"]))


@pytest.mark.seconds
@pytest.mark.parametrize("nesting", ["plain", "module"])
def test_family_c_resnet_with_two_logits_per_attribute(tmp_path: Path, images: Tensor, nesting: str) -> None:
    """docs/methods/attribute-labelling.md, check 4: a random resnet50 with 80 outputs, CelebA's 40 names, softmax of pairs."""
    images = images[:2]
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import resnet50

    torch.manual_seed(0)
    reference = resnet50(weights=None, num_classes=80).eval()
    state: dict[str, Any] = dict(reference.state_dict())
    if nesting == "module":
        state = {f"module.{key}": value for key, value in state.items()}
    torch.save(state if nesting == "plain" else {"epoch": 3, "state_dict": state}, tmp_path / "attributes.pt")
    shipped = yaml.safe_load(config_path("labellers", "celeba-40").read_text())
    assert tuple(shipped["outputs"]["pairs"]) == CELEBA_40
    assert len(set(CELEBA_40)) == 40
    assert list(CELEBA_40) == sorted(CELEBA_40)
    shipped["outputs"] = {
        name: {"pair": [2 * i, 2 * i + 1], "kind": "probability"} for i, name in enumerate(shipped["outputs"]["pairs"])
    }
    labeller = open_labeller(write(tmp_path, **{**shipped, "weights": "attributes.pt"}))
    scores = labeller(images)
    resized = nn.functional.interpolate(images, (256, 256), mode="bilinear", align_corners=True)
    with torch.no_grad():
        probabilities = reference(resized).view(-1, 40, 2).softmax(2)[..., 1]
    torch.testing.assert_close(torch.stack(list(scores.values()), 1), probabilities, atol=1e-6, rtol=1e-5)
    assert tuple(scores) == CELEBA_40
    assert (CELEBA_40.index("Eyeglasses"), CELEBA_40.index("Male"), CELEBA_40.index("Smiling")) == (15, 20, 31)


@pytest.mark.seconds
def test_weights_of_another_architecture_are_refused(tmp_path: Path, net: Classifier) -> None:
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    given = {"kind": "torchvision", "weights": "weights.pt", "input": INPUT, "outputs": ["a"]}
    with pytest.raises(WeightsRefused, match="does not hold the weights of torchvision's resnet18 with 1 outputs"):
        open_labeller(write(tmp_path, architecture="resnet18", **given))
    with pytest.raises(ConfigError, match="no classifier 'resnet19', did you mean 'resnet1"):
        open_labeller(write(tmp_path, architecture="resnet19", **given))
    torch.save({"epoch": 3}, tmp_path / "weights.pt")
    with pytest.raises(WeightsRefused, match="holds no state dict"):
        open_labeller(write(tmp_path, architecture="resnet18", **given))


def test_timm_classifier_with_own_weights(tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    timm = pytest.importorskip("timm", reason="install ganinv[labellers] to run this test")
    reference = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pt")
    given: dict[str, Any] = {"kind": "timm", "architecture": "resnet10t", "width": 3, "outputs": ["a", "b", "c"]}
    labeller = open_labeller(write(tmp_path, **given, weights="weights.pt"))
    data = timm.data.resolve_model_data_config(reference)
    assert labeller.provenance["input"]["size"] == data["input_size"][-1]
    with torch.no_grad():
        expected = reference(labeller.spec.prepare(images))  # type: ignore[attr-defined]
    torch.testing.assert_close(torch.stack(list(labeller(images).values()), 1), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="needs weights"):
        open_labeller(write(tmp_path, **given))
    with pytest.raises(ConfigError, match="no model 'resnet10x'"):
        open_labeller(write(tmp_path, **{**given, "architecture": "resnet10x"}))
    # An address where nobody answers stands for a machine without a network; the cache is empty.
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"neither in the cache nor available.*HF_HOME"):
        open_labeller(write(tmp_path, **given, pretrained=True))


def test_timm_that_is_not_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigError, match=r"package timm.*ganinv\[labellers\]"):
        open_labeller(write(tmp_path, kind="timm", architecture="resnet18", pretrained=True, outputs=["a"]))


class Constant(LabellerKind):
    """A kind from outside the package: the same score for every image."""

    kind: Literal["constant"]
    score: float

    def open(self) -> Labeller:
        return Flat(
            name=self.name, version=self.version, attributes={"same": Attribute(kind="value", positive_means="")},
            weights_sha256="", description={"score": self.score},
        )  # fmt: skip


class Flat(Labeller):
    def score(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        return {"same": torch.full((len(self.checked(images)),), self.description["score"])}


def test_a_kind_that_is_registered_is_read_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "constant.yaml"
    file.write_text("{kind: constant, name: flat, score: 3}")
    with pytest.raises(ConfigError, match=r"unknown kind of labeller 'constant'.*; there are: torchscript, onnx, "):
        open_labeller(str(file))
    monkeypatch.setattr(KINDS, "_homes", dict(KINDS._homes))
    KINDS.register("constant", Constant)
    assert open_labeller(str(file))(torch.zeros(2, 3, 8, 8))["same"].tolist() == [3.0, 3.0]
    file.write_text("{kind: constant, name: flat, scoer: 3}")
    with pytest.raises(ConfigError, match=r"unknown key 'labeller\.scoer', did you mean 'score'"):
        open_labeller(str(file))
