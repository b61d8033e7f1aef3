"""Labellers by configuration: ``configs/labellers/*.yaml``, or a YAML file of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ganinv.config import StrictModel, load_yaml, validate
from ganinv.errors import ConfigError
from ganinv.labels.architectures import input_of_timm, open_timm, open_torchvision
from ganinv.labels.base import Attribute, Labeller
from ganinv.labels.clip import ClipScorer, Prompts, open_open_clip, open_transformers
from ganinv.labels.graphs import open_onnx, open_torchscript
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.outputs import Numbers, Output, expand_outputs
from ganinv.labels.published import Layout, read_published
from ganinv.labels.table import TableLabeller, read_labels

Outputs = Annotated[Mapping[str, Output], BeforeValidator(expand_outputs), Field(min_length=1)]


class _Named(StrictModel):
    name: str
    version: int = Field(default=1, ge=1)
    """Raise it when anything changes that moves a score."""


class _Classifier(_Named):
    """What all classifiers have in common.

    ``outputs``: attribute -> ``Output``; a list of names is columns 0, 1, ..., and ``pairs: [names]`` is two logits per
    attribute, (absent, present). ``numbers`` says what the outputs are. ``sha256`` pins the weight file.
    """

    outputs: Outputs
    numbers: Numbers = "logits"
    sha256: str | None = None


class GraphConfig(_Classifier):
    """A file that holds the network itself. It is executed: see ``ganinv.labels.graphs`` for what that means.

    ``weights``: the file, at any URL; a relative path starts at the YAML file.
    """

    kind: Literal["torchscript", "onnx"]
    weights: str
    input: InputSpec


class TorchvisionConfig(_Classifier):
    """A torchvision classifier. ``width``: its number of outputs, by default as many as ``outputs`` reads."""

    kind: Literal["torchvision"]
    architecture: str
    width: int | None = Field(default=None, ge=1)
    weights: str
    input: InputSpec


class TimmConfig(_Classifier):
    """A timm classifier. Without ``weights`` those that timm publishes; without ``input`` what those were made for."""

    kind: Literal["timm"]
    architecture: str
    width: int | None = Field(default=None, ge=1)
    weights: str | None = None
    pretrained: bool = False
    input: InputSpec | None = None


class ClipConfig(_Named):
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


class TableConfig(_Named):
    """A user's own table of labels or scores, joined by image id."""

    kind: Literal["table"]
    path: str
    layout: Literal["table"] | Layout = "table"
    """A table, or what a published pipeline wrote (see ``ganinv.labels.published``)."""
    id_column: str = "image_id"
    columns: Mapping[str, str] | None = None
    """attribute -> column; every column of numbers by default."""
    attributes: Mapping[str, Attribute] = Field(default_factory=dict)
    """What the scores are, where somebody wants to know."""


class LabellerConfig(StrictModel):
    """One labeller, of any kind."""

    labeller: Annotated[
        GraphConfig | TorchvisionConfig | TimmConfig | ClipConfig | TableConfig, Field(discriminator="kind")
    ]


def read_labeller_config(path: Path) -> Any:
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


def labeller_from(config: Any) -> Labeller:
    """Open what a configuration describes.

    Raises:
        ConfigError: a package, an architecture or weights that are not there. WeightsRefused, DataError: files that
            cannot be used.
    """
    if isinstance(config, TableConfig):
        return _table(config)
    if isinstance(config, ClipConfig):
        return _clip(config)
    return _classifier(config)


def _classifier(config: GraphConfig | TorchvisionConfig | TimmConfig) -> NetworkLabeller:
    described: dict[str, Any] = {"kind": config.kind}
    if isinstance(config, GraphConfig):
        opened = open_torchscript if config.kind == "torchscript" else open_onnx
        (net, sha256), spec = opened(config.weights, config.sha256), config.input
    elif isinstance(config, TorchvisionConfig):
        width = config.width or 1 + max(output.last for output in config.outputs.values())
        (net, sha256), spec = (
            open_torchvision(config.architecture, width, config.weights, config.sha256),
            config.input,
        )
        described["architecture"] = config.architecture
    else:
        net, sha256 = open_timm(config.architecture, config.width, config.weights, config.sha256, config.pretrained)
        described["architecture"] = config.architecture
        spec = config.input or input_of_timm(net)
    return NetworkLabeller(
        net,
        name=config.name,
        version=config.version,
        weights_sha256=sha256,
        spec=spec,
        outputs=config.outputs,
        numbers=config.numbers,
        description=described
        | {"outputs": {key: o.model_dump(mode="json", exclude_none=True) for key, o in config.outputs.items()}},
        differentiable=config.kind != "onnx",
    )


def _clip(config: ClipConfig) -> NetworkLabeller:
    if any("{}" not in template for template in config.templates):
        raise ConfigError(f"labeller {config.name!r}: every template needs a {{}} for the prompt: {config.templates}")
    if config.library == "open_clip":
        if not config.pretrained:
            raise ConfigError(f"labeller {config.name!r}: open_clip needs pretrained: a tag of its weights, or a file")
        model = open_open_clip(config.model, config.pretrained, config.cache)
    else:
        model = open_transformers(config.model)
    return NetworkLabeller(
        ClipScorer(model, config.prompts, config.templates),
        name=config.name,
        version=config.version,
        weights_sha256=model.sha256,
        spec=config.input or model.spec,
        outputs={
            key: Output(column=i, positive_means=pair.positive_means or f"{pair.positive[0]}, not {pair.negative[0]}")
            for i, (key, pair) in enumerate(config.prompts.items())
        },
        description={
            "kind": "clip",
            "model": config.model,
            "pretrained": config.pretrained,
            "templates": list(config.templates),
            "prompts": {key: pair.model_dump(mode="json") for key, pair in config.prompts.items()},
        },
    )


def _table(config: TableConfig) -> Labeller:
    if config.layout == "table":
        scores, ids, sha256 = read_labels(config.path, config.id_column, config.columns)
    else:
        (scores, ids), sha256 = read_published(config.path, config.layout), ""
    if unknown := set(config.attributes) - set(scores):
        raise ConfigError(f"labeller {config.name!r} describes {sorted(unknown)}, its table has {sorted(scores)}")
    return TableLabeller(
        scores,
        ids,
        name=config.name,
        version=config.version,
        attributes=config.attributes,
        weights_sha256=sha256,
        description={"kind": "table", "layout": config.layout, "id_column": config.id_column},
    )
