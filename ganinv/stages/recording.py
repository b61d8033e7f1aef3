"""A step of the descent, recorded once and replayed: as a CUDA graph on a GPU, as a trace of its operations elsewhere.

A step is some thousand kernels of a few microseconds each. Launching them one by one takes the host longer than the device
needs, so a GPU waits; a CUDA graph launches all of them at once. What a graph can hold is what the trace can hold: operations on
tensors that stay where they are. No number reaches the host within a step, every schedule is a table on the device, and random
numbers lie in blocks that the host fills beforehand. So the trace is the twin that the tests run if there is no GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganinv.stages.lanes import Batch, Draws

Outputs = tuple[Tensor, Tensor]
"""Losses [B], and which lanes were running [B]."""
Step = Callable[..., Outputs]
WARM_UPS = 2  # steps before a capture: libraries choose kernels and take workspace in the first ones


class Recording:
    """The step of a descent for one number of lanes. Lanes may go and come: their tensors are copied into the recording's.

    Args:
        advance: the step of a batch, which it moves in place, with random numbers from ``Draws``.
        batch: as it is now; it is copied, and steps of the copy are computed for warming up, and undone.
    """

    def __init__(self, advance: Callable[[Draws, Batch], Outputs], batch: Batch) -> None:
        self.batch = batch.mapped(_own)
        self._tensors = self.batch.tensors()
        self._draws = Draws(self.batch)
        # ``advance`` is not kept: it belongs to what holds this recording, and the memory of a cycle goes when it pleases.
        self._replay = record(functools.partial(self._step, advance), self._tensors)

    def fits(self, batch: Batch) -> bool:
        """Whether a batch has tensors of the same shapes."""
        return [(t.shape, t.dtype) for t in batch.tensors()] == [(t.shape, t.dtype) for t in self._tensors]

    def load(self, batch: Batch) -> Batch:
        """The recording's own batch, with what is in ``batch``."""
        if batch is not self.batch:
            for own, given in zip(self._tensors, batch.tensors(), strict=True):
                own.copy_(given)
            self.batch.lanes = batch.lanes
        return self.batch

    def step(self) -> Outputs:
        """One step of the loaded batch: losses [B], and which lanes were running [B]."""
        self._draws.refresh(self.batch)
        loss, under_way = self._replay()
        return loss.clone(), under_way.clone()

    def _step(self, advance: Callable[[Draws, Batch], Outputs], *tensors: Tensor) -> Outputs:
        given = iter(tensors)
        batch = self.batch.mapped(lambda _: next(given))
        out = advance(self._draws, batch)
        for own, now in zip(tensors, batch.tensors(), strict=True):
            if now is not own:  # of an optimiser that makes a new tensor of its state
                own.copy_(now)
        return out


def record(step: Step, tensors: Sequence[Tensor]) -> Callable[[], Outputs]:
    """``step(*tensors)``, which moves these tensors in place, as something to be replayed on them. They are as before afterwards.

    Raises:
        Exception: whatever a step raises that cannot be recorded, such as one that reads a number from the device.
    """
    on_gpu = tensors[0].is_cuda
    before = [t.clone() for t in tensors]
    if on_gpu:
        replay = _captured(step, tensors)
    else:
        step(*tensors)
        replay = _traced(step, tensors)
    for t, kept in zip(tensors, before, strict=True):
        t.copy_(kept)
    return replay


def _captured(step: Step, tensors: Sequence[Tensor]) -> Callable[[], Outputs]:
    """As a CUDA graph, after warm-ups on a stream of their own, as captures ask for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step(*tensors)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step(*tensors)

    def replay() -> Outputs:
        graph.replay()
        return out

    return replay


def _traced(step: Step, tensors: Sequence[Tensor]) -> Callable[[], Outputs]:
    """As the sequence of its operations, gradients included."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(step)(*tensors)
    return lambda: graph(*tensors)  # type: ignore[no-any-return]


def _own(tensor: Tensor) -> Tensor:
    """A copy that overlaps nothing, not even itself as one that was expanded does."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
