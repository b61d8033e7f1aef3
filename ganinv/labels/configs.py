"""Labellers by configuration: ``configs/labellers/*.yaml``, or a YAML file of your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from torch import nn

from ganinv.config import ChosenBy, StrictModel, load_yaml, validate
from ganinv.errors import ConfigError
from ganinv.labels.architectures import input_of_timm, open_timm, open_torchvision
from ganinv.labels.base import Attribute, Labeller
from ganinv.labels.clip import ClipScorer, Prompts, open_open_clip, open_transformers
from ganinv.labels.graphs import open_onnx, open_torchscript
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.outputs import Numbers, Output, expand_outputs
from ganinv.labels.published_tables import Layout, read_published
from ganinv.labels.table import TableLabeller, read_labels
from ganinv.registry import Registry

Outputs = Annotated[Mapping[str, Output], BeforeValidator(expand_outputs), Field(min_length=1)]


class LabellerKind(StrictModel, ABC):
    """The configuration of one labeller, which opens itself. A new kind is a subclass of this and a line of ``KINDS``."""

    kind: str
    name: str
    version: int = Field(default=1, ge=1)
    """Raise it when anything changes that moves a score."""

    @abstractmethod
    def open(self) -> Labeller:
        """The labeller.

        Raises:
            ConfigError: a package, an architecture or weights that are not there. WeightsRefused, DataError: files that
                cannot be used.
        """


class _Classifier(LabellerKind):
    """Settings that all classifiers share.

    ``outputs``: attribute -> ``Output``; a list of names is columns 0, 1, ..., and ``pairs: [names]`` is two logits per
    attribute, (absent, present). ``numbers`` says what the outputs are. ``sha256`` pins the weight file.
    """

    outputs: Outputs
    numbers: Numbers = "logits"
    sha256: str | None = None

    def _labeller(
        self, net: nn.Module, sha256: str, spec: InputSpec, *, differentiable: bool = True, **described: Any
    ) -> NetworkLabeller:
        outputs = {key: output.model_dump(mode="json", exclude_none=True) for key, output in self.outputs.items()}
        return NetworkLabeller(
            net,
            name=self.name,
            version=self.version,
            weights_sha256=sha256,
            spec=spec,
            outputs=self.outputs,
            numbers=self.numbers,
            description={"kind": self.kind, **described, "outputs": outputs},
            differentiable=differentiable,
        )


class GraphConfig(_Classifier):
    """A file that holds the network itself. It is executed: see ``ganinv.labels.graphs`` for what that means.

    ``weights``: the file, at any URL; a relative path starts at the YAML file.
    """

    kind: Literal["torchscript", "onnx"]
    weights: str
    input: InputSpec

    def open(self) -> Labeller:
        opened = open_torchscript if self.kind == "torchscript" else open_onnx
        net, sha256 = opened(self.weights, self.sha256)
        return self._labeller(net, sha256, self.input, differentiable=self.kind != "onnx")


class TorchvisionConfig(_Classifier):
    """A torchvision classifier. ``width``: its number of outputs, by default as many as ``outputs`` reads."""

    kind: Literal["torchvision"]
    architecture: str
    width: int | None = Field(default=None, ge=1)
    weights: str
    input: InputSpec

    def open(self) -> Labeller:
        width = self.width or 1 + max(output.last for output in self.outputs.values())
        net, sha256 = open_torchvision(self.architecture, width, self.weights, self.sha256)
        return self._labeller(net, sha256, self.input, architecture=self.architecture)


class TimmConfig(_Classifier):
    """A timm classifier. Without ``weights`` those that timm publishes; without ``input`` what those were made for."""

    kind: Literal["timm"]
    architecture: str
    width: int | None = Field(default=None, ge=1)
    weights: str | None = None
    pretrained: bool = False
    input: InputSpec | None = None

    def open(self) -> Labeller:
        net, sha256 = open_timm(self.architecture, self.width, self.weights, self.sha256, self.pretrained)
        return self._labeller(net, sha256, self.input or input_of_timm(net), architecture=self.architecture)


class ClipConfig(LabellerKind):
    """A model of images and texts, by pairs of prompts.

    ``pretrained``: for open_clip, the tag of the weights or a file. ``input`` replaces the model's own.
    """

    kind: Literal["clip"]
    library: Literal["open_clip", "transformers"]
    model: str
    pretrained: str | None = None
    cache: str | None = None
    templates: tuple[str, ...] = ("a photo of {}",)
    prompts: Mapping[str, Prompts] = Field(min_length=1)
    input: InputSpec | None = None

    def open(self) -> Labeller:
        if any("{}" not in template for template in self.templates):
            raise ConfigError(f"labeller {self.name!r}: every template needs a {{}} for the prompt: {self.templates}")
        if self.library == "open_clip":
            if not self.pretrained:
                raise ConfigError(
                    f"labeller {self.name!r}: open_clip needs pretrained: a tag of its weights, or a file"
                )
            model = open_open_clip(self.model, self.pretrained, self.cache)
        else:
            model = open_transformers(self.model)
        return NetworkLabeller(
            ClipScorer(model, self.prompts, self.templates),
            name=self.name,
            version=self.version,
            weights_sha256=model.sha256,
            spec=self.input or model.spec,
            outputs={
                key: Output(
                    column=i, positive_means=pair.positive_means or f"{pair.positive[0]}, not {pair.negative[0]}"
                )
                for i, (key, pair) in enumerate(self.prompts.items())
            },
            description={
                "kind": "clip",
                "model": self.model,
                "pretrained": self.pretrained,
                "templates": list(self.templates),
                "prompts": {key: pair.model_dump(mode="json") for key, pair in self.prompts.items()},
            },
        )


class TableConfig(LabellerKind):
    """A user's own table of labels or scores, joined by image id."""

    kind: Literal["table"]
    path: str
    layout: Literal["table"] | Layout = "table"
    """A table, or what a published pipeline wrote (see ``ganinv.labels.published_tables``)."""
    id_column: str = "image_id"
    columns: Mapping[str, str] | None = None
    """attribute -> column; every column of numbers by default."""
    attributes: Mapping[str, Attribute] = Field(default_factory=dict)
    """Descriptions of the scores, optional."""

    def open(self) -> Labeller:
        if self.layout == "table":
            scores, ids, sha256 = read_labels(self.path, self.id_column, self.columns)
        else:
            (scores, ids), sha256 = read_published(self.path, self.layout), ""
        if unknown := set(self.attributes) - set(scores):
            raise ConfigError(f"labeller {self.name!r} describes {sorted(unknown)}, its table has {sorted(scores)}")
        return TableLabeller(
            scores,
            ids,
            name=self.name,
            version=self.version,
            attributes=self.attributes,
            weights_sha256=sha256,
            description={"kind": "table", "layout": self.layout, "id_column": self.id_column},
        )


KINDS: Registry[type[LabellerKind]] = Registry(
    "kind of labeller",
    {
        "torchscript": GraphConfig,
        "onnx": GraphConfig,
        "torchvision": TorchvisionConfig,
        "timm": TimmConfig,
        "clip": ClipConfig,
        "table": TableConfig,
    },
)


class LabellerConfig(StrictModel):
    """One labeller, of any kind."""

    labeller: Annotated[LabellerKind, ChosenBy("kind", KINDS)]


def read_labeller_config(path: Path) -> LabellerKind:
    """The configuration in a YAML file, its relative paths made absolute.

    Raises:
        ConfigError: not a labeller's configuration.
    """
    config = validate(LabellerConfig, {"labeller": load_yaml(path)}, path.name).labeller
    files = {key: value for key in ("weights", "path") if isinstance(value := getattr(config, key, None), str)}
    if isinstance(config, ClipConfig) and config.pretrained and (path.parent / config.pretrained).is_file():
        files["pretrained"] = config.pretrained
    local = {key: value for key, value in files.items() if "://" not in value}
    return config.model_copy(update={key: str(path.parent / value) for key, value in local.items()})
