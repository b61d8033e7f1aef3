"""Compiled paths, by ``torch.compile``, which needs a C++ compiler, and Triton on a GPU.

``compile``: what follows a convolution (filter, demodulation, noise, bias, leaky ReLU, clamp) as one kernel.
``layers.after_convolution`` is the reference; the twin here is the same function in operations that a compiler fuses (the
filter as sixteen shifted sums). ``step``: a step of optimisation or tuning renders, measures and differentiates in one graph
(``ganinv.stages.descent``), which takes a minute or more to compile for each stage. ``graph``: the whole step, optimiser
included, is recorded and replayed (``ganinv.stages.recording``), on a GPU as a CUDA graph; that needs no compiler and takes as
long as three steps.

All are off unless ``fast_path(mode)`` or ``GANINV_FAST=mode`` asks for one, or a method for compiled steps, as it does in a
run that is long enough (``tasks.compiling``). If a path is not available, one warning says so and the plain one is used.
``benchmarks/generator/fast_path.py`` measures whether they pay.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.generators import layers

Mode = Literal["off", "compile", "step", "graph"]
_mode: Mode | None = None
_gave_up = False

Tensors = Sequence[Tensor | None]
"""(y, demod, noise, bias, kernel) as ``twin`` takes them."""


def fast_path(mode: Mode | None = None) -> Mode:
    """The path that this process takes; with an argument, the one that it takes from now on.

    Raises:
        ConfigError: another mode than ``off``, ``compile``, ``step`` and ``graph``, here or in ``GANINV_FAST``.
    """
    global _mode
    if mode is None and _mode is not None:
        return _mode
    wanted: Any = mode or os.environ.get("GANINV_FAST") or "off"
    if wanted not in get_args(Mode):
        raise ConfigError(f"unknown fast path {wanted!r}; there are: {', '.join(get_args(Mode))}")
    _mode = wanted
    return wanted  # type: ignore[no-any-return]


@contextmanager
def compiled_steps(wanted: bool) -> Iterator[None]:
    """Within, steps are compiled, if that is wanted, nothing else was asked for, and it has not failed before."""
    global _mode
    if not wanted or _gave_up or fast_path() != "off" or os.environ.get("GANINV_FAST"):
        yield
        return
    _mode = "step"
    try:
        yield
    finally:
        _mode = "off"


def triton_is_there() -> bool:
    """Whether there is what ``torch.compile`` makes kernels for a GPU with."""
    return importlib.util.find_spec("triton") is not None


def give_up(error: Exception) -> None:
    """Warn that there is no fast path, and take the plain one from now on."""
    global _gave_up
    _gave_up = True
    reason = str(error).strip().split("\n")[0][:300]
    warnings.warn(f"no fast path: {type(error).__name__}: {reason}; the plain one is used", stacklevel=3)
    fast_path("off")


def after_convolution(
    y: Tensor,
    demod: Tensor | None,
    noise: Tensor | None,
    bias: Tensor,
    fir: layers.FIR | None,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """``layers.after_convolution``, compiled. Second derivatives are exact, and take the time of the twin as it is."""
    kernel = None if fir is None else fir.kernel.to(y.dtype)
    try:
        out: Tensor = _Fused.apply((gain, clamp), y, demod, noise, bias.to(y.dtype), kernel)  # type: ignore[no-untyped-call]
        return out
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, or the lack of one, can raise
        give_up(error)
        return layers.after_convolution(y, demod, noise, bias, fir, gain, clamp)


def twin(
    y: Tensor,
    demod: Tensor | None,
    noise: Tensor | None,
    bias: Tensor,
    kernel: Tensor | None,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """``layers.after_convolution`` with the filter [4, 4] as shifted sums."""
    if kernel is not None:
        padded = F.pad(y, (1, 1, 1, 1))
        height, width = y.shape[2] - 1, y.shape[3] - 1
        shifts = [(i, j) for i in range(4) for j in range(4)]
        terms = (padded[:, :, i : i + height, j : j + width] * kernel[i, j] for i, j in shifts)
        y = functools.reduce(torch.add, terms)
    return layers.after_convolution(y, demod, noise, bias, None, gain, clamp)


def twin_backward(
    grad: Tensor, wanted: Sequence[bool], tensors: Tensors, gain: float, clamp: float | None
) -> list[Tensor | None]:
    """Gradients of ``twin`` to those of its tensors that are ``wanted``."""
    places = [i for i, want in enumerate(wanted) if want]

    def of_wanted(*values: Tensor) -> Tensor:
        given: list[Any] = list(tensors)
        for place, value in zip(places, values, strict=True):
            given[place] = value
        return twin(*given, gain=gain, clamp=clamp)  # type: ignore[misc]

    pull: Any = torch.func.vjp(of_wanted, *(tensors[i] for i in places))[1]
    out: list[Tensor | None] = [None] * len(tensors)
    for place, value in zip(places, pull(grad), strict=True):
        out[place] = value
    return out


class _Fused(torch.autograd.Function):
    """Forward and backward are compiled one by one: a graph compiled as a whole can be neither kept nor derived twice."""

    @staticmethod
    def forward(ctx: Any, settings: tuple[float, float | None], *tensors: Tensor | None) -> Tensor:
        ctx.settings = settings
        ctx.save_for_backward(*tensors)
        return _compiled(twin)(*tensors, *settings)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # create_graph: a compiled backward has no derivative
            return None, *twin_backward(grad, wanted, tensors, *ctx.settings)
        return None, *_compiled(twin_backward)(grad, wanted, tensors, *ctx.settings)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """For all sizes at once: a network has a dozen of them, and compiling takes seconds."""
    return torch.compile(function, dynamic=True)
