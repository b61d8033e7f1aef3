"""Classifiers that come as weights for a known architecture: torchvision's and timm's. The weight file runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ganinv.errors import ConfigError, WeightsRefused, did_you_mean
from ganinv.labels.graphs import INSTALL
from ganinv.labels.inputs import InputSpec, Resize
from ganinv.labels.network import module_sha256
from ganinv.losses._compat import ensure_torchvision
from ganinv.reading.checkpoint import open_checkpoint, read_checkpoint
from ganinv.reading.start import without_random_start

NESTED = ("state_dict", "model", "model_state_dict", "net", "ema", "module")
"""Keys under which training scripts put the state dict."""


def open_torchvision(architecture: str, outputs: int, weights: str, sha256: str | None) -> tuple[nn.Module, str]:
    """(module, sha256) of a torchvision classifier with ``outputs`` outputs and the weights of a file.

    Raises:
        ConfigError: no such architecture. WeightsRefused: the file does not hold its weights.
    """
    ensure_torchvision()
    from torchvision import models

    known = models.list_models(module=models)
    if architecture not in known:
        raise ConfigError(f"torchvision has no classifier {architecture!r}{did_you_mean(architecture, known)}")
    with without_random_start():
        net = models.get_model(architecture, weights=None, num_classes=outputs)
    return net, _load(net, f"torchvision's {architecture} with {outputs} outputs", weights, sha256)


def open_timm(
    architecture: str, outputs: int | None, weights: str | None, sha256: str | None, pretrained: bool
) -> tuple[nn.Module, str]:
    """(module, sha256) of a timm classifier, with the weights of a file or those that timm publishes for it.

    Args:
        outputs: None keeps the architecture's own number.
        pretrained: fetch the published weights (kept in the Hugging Face cache) when no file is given.
    """
    ensure_torchvision()
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"a timm labeller needs the package timm: {INSTALL}") from error
    plain = architecture.partition(".")[0]
    if not architecture.startswith(("hf-hub:", "hf_hub:")) and not timm.is_model(plain):
        raise ConfigError(f"timm {timm.__version__} has no model {plain!r}{did_you_mean(plain, timm.list_models())}")
    if weights is None and not pretrained:
        raise ConfigError(f"timm labeller {architecture!r} needs weights: give a file, or set pretrained: true")
    more = {} if outputs is None else {"num_classes": outputs}
    if weights is not None:
        with without_random_start():
            net = timm.create_model(architecture, pretrained=False, **more)
        return net, _load(net, f"timm's {architecture}", weights, sha256)
    try:
        net = timm.create_model(architecture, pretrained=True, **more)
    except Exception as error:  # whatever the hub's client raises when there is no network
        raise ConfigError(
            f"timm's weights of {architecture!r} are neither in the cache nor available ({first_line(error)}); run once "
            "with network access, set HF_HOME to a cache that has them, or give weights: a file"
        ) from error
    return net, module_sha256(net)


def input_of_timm(net: nn.Module) -> InputSpec:
    """Input size and normalisation that a timm model was trained with."""
    import timm

    data = timm.data.resolve_model_data_config(net)
    kernel: Resize = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
    return InputSpec(size=data["input_size"][-1], mean=data["mean"], std=data["std"], resize=kernel)


def _load(net: nn.Module, what: str, uri: str, sha256: str | None) -> str:
    """Read a state dict into ``net``; the file's sha256."""
    tree = read_checkpoint(uri, sha256=sha256)
    with open_checkpoint(uri) as checkpoint:
        found = checkpoint.sha256
    try:
        net.load_state_dict(state_in(tree, uri))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise WeightsRefused(f"{uri} does not hold the weights of {what}: {' '.join(lines)[:400]}") from error
    return found


def state_in(tree: Any, uri: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint: at its top or under the usual names; ``module.`` of DataParallel is dropped."""
    for _ in range(4):
        if not isinstance(tree, Mapping):
            break
        tensors = {key: value for key, value in tree.items() if isinstance(value, Tensor)}
        if tensors:
            prefix = "module." if all(key.startswith("module.") for key in tensors) else ""
            return {key.removeprefix(prefix): value for key, value in tensors.items()}
        tree = next((tree[key] for key in NESTED if key in tree), None)
    raise WeightsRefused(
        f"{uri} holds no state dict; expected tensors by name, at the top or under {', '.join(NESTED)}"
    )


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
