"""Gradient descent on many images at once, each a problem of its own.

Images sit in *lanes*. Every lane has its own values, optimiser state, step count and random streams; losses are summed, never
averaged. A lane whose image is finished is given to the next one that waits (continuous batching), so one slow image holds
nobody up. What an image becomes is a function of the image, its id and the seed: not of the lanes beside it.

The number of lanes is kept a multiple of four, with idle lanes at the end (``ganinv.stages.batches``): the bits of a result
are then the same whatever other images there are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.generators import fast
from ganinv.generators.stylegan2 import Generator
from ganinv.optim.batched import Matrix, Optimizer
from ganinv.stages.base import Context, StageResult
from ganinv.stages.batches import idle
from ganinv.stages.lanes import CAP, NOT_FINITE, PLATEAU, REASONS, THRESHOLD, Batch, Draws, Lane
from ganinv.stages.memory import Gauge
from ganinv.stages.objective import Objective
from ganinv.stages.recording import Recording
from ganinv.stages.variables import DescentStep, Variable
from ganinv.target import Target


class Stop(StrictModel):
    """When an image is finished before its steps are used up. The values that met the rule are kept."""

    below: float | None = None
    """Its perceptual distance is at most this (PTI, Roich et al. 2022)."""
    patience: int | None = Field(None, ge=1)
    """Number of steps in which its best loss fell by less than ``tolerance`` of itself."""
    tolerance: float = Field(0.01, ge=0)


class Descent:
    """What is optimised, and how: the engine of the stages ``optimize`` and ``tune``.

    Args:
        variables: what moves.
        optimizer: makes the steps.
        lr: the learning rate, of variables that name none.
        schedule: share of the steps done, in [0, 1) -> factor on the learning rates.
        extra_loss: (code, moment) -> what is added to each image's loss, [B].
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        optimizer: Optimizer,
        *,
        steps: int,
        lr: float,
        schedule: Callable[[float], float] = lambda t: 1.0,
        stop: Stop | None = None,
        extra_loss: Callable[[Code, DescentStep], Tensor] | None = None,
    ) -> None:
        self.variables, self.optimizer, self.steps, self.lr = variables, optimizer, steps, lr
        self.schedule, self.stop, self.extra_loss = schedule, stop or Stop(), extra_loss

    def __call__(self, target: Target, code: Code, objective: Objective, context: Context) -> StageResult:
        """Optimise every image of ``target`` from its row of ``code``; ``context.lanes`` of them at once."""
        return DescentRun(self, target, code, objective, context).all()


class DescentRun:
    """One descent under way. It is the :class:`~ganinv.stages.variables.DescentStep` of its variables."""

    def __init__(self, descent: Descent, target: Target, code: Code, objective: Objective, context: Context) -> None:
        self.descent, self.target, self.code, self.context = descent, target, code.detach(), context
        self.objective = objective
        self.generator = context.generator
        self.waiting = list(range(len(target)))
        self.parked: list[Batch] = []
        self.most = context.lanes
        self.shapes: list[dict[str, torch.Size]] = []
        self.matrices: list[list[Matrix]] = []
        self.results: dict[int, tuple[Code, Lane, str]] = {}
        self.batch: Batch | None = None
        self.draws: Draws | None = None
        """Where a recorded step finds its random numbers."""
        self._recording: Recording | None = None
        self._tables: dict[Callable[[float], float], Tensor] = {}
        self._once: dict[str, float] = {}
        self.look_every = 10 if self.generator.device.type == "cuda" else 1
        """Steps between two looks at which lanes are finished: each look waits for the device. Results do not depend
        on it, since a finished lane stands still."""

    def all(self) -> StageResult:
        self._fill()
        gauge = Gauge(self.generator.device) if self.context.grow else None
        while self.batch is not None:
            history: list[tuple[Tensor, Tensor]] = []
            try:
                while len(history) < self.look_every:
                    history += [self._step(self.batch)]
            except torch.OutOfMemoryError:
                self._halve(history)
                continue
            if gauge is not None and (fits := gauge.lanes(len(self.batch.count))):
                self.most = fits
            gauge = None
            self._look(history)
        order = [self.results[i] for i in range(len(self.target))]
        return StageResult(
            Code.cat([code for code, _, _ in order]),
            [lane.curve for _, lane, _ in order],
            [lane.steps for _, lane, _ in order],
            [reason for _, _, reason in order],
        )

    @property
    def progress(self) -> list[float]:
        assert self.batch is not None
        done = [lane.steps / self.descent.steps for lane in self.batch.lanes]
        return done + [0.0] * (len(self.batch.count) - len(done))

    def scheduled(self, curve: Callable[[float], float]) -> Tensor | None:
        """[B]: a curve over the shares of the steps done, at each image's; None while it is zero for all of them."""
        assert self.batch is not None
        if self.draws is None and not any(curve(t) for t in self.progress):
            return None
        return self._factors(curve, self.batch)

    def once(self, name: str, read: Callable[[], float]) -> float:
        """A number that no step changes, read from the device before the first one needs it."""
        if name not in self._once:
            self._once[name] = read()
        return self._once[name]

    def _factors(self, curve: Callable[[float], float], batch: Batch) -> Tensor:
        """[B], from a table on the device: a step that asked the host for it would wait for the device first."""
        steps = self.descent.steps
        if curve not in self._tables:
            table = torch.tensor([curve(k / steps) for k in range(steps)], dtype=batch.base.w.dtype)
            self._tables[curve] = table.to(batch.count.device)
        return self._tables[curve][batch.count.clamp(max=steps - 1)]

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape]: each lane's draw for its step; zero in idle lanes."""
        assert self.batch is not None
        if self.draws is not None:
            return self.draws.take(purpose, shape, self.batch)
        drawn = [lane.normal(purpose, shape, self.batch.base.w) for lane in self.batch.lanes]
        idle = len(self.batch.count) - len(drawn)
        return torch.stack(drawn + [torch.zeros_like(drawn[0])] * idle)

    def _fill(self) -> None:
        """Give free lanes to images that wait."""
        batch = None if self.batch is None else self.batch.real()
        while (free := self.most - (len(batch.lanes) if batch else 0)) > 0 and (self.parked or self.waiting):
            if self.parked:
                entering = self.parked.pop()
                if len(entering.lanes) > free:
                    self.parked.append(entering.select(range(free, len(entering.lanes))))
                    entering = entering.select(range(free))
            else:
                entering = self._enter(self.waiting[:free])
                del self.waiting[:free]
            batch = entering if batch is None else batch.joined(entering)
        self.batch = None if batch is None else self._padded(batch)

    def _padded(self, batch: Batch) -> Batch:
        """With idle lanes; as many as there is room for where steps are compiled, which takes minutes for every size."""
        return batch.padded(self.most, full=fast.fast_path() == "step")

    def _enter(self, index: Sequence[int]) -> Batch:
        """New lanes for some images, at their start."""
        real, filled = len(index), [*index, *[index[-1]] * idle(len(index), self.most)]
        ids = [self.target.ids[i] for i in filled]
        base = self.code[torch.tensor(filled, device=self.code.w.device)]
        with torch.no_grad():
            starts = [variable.start(base, ids, self.context) for variable in self.descent.variables]
        self.shapes = [{name: value.shape[1:] for name, value in start.items()} for start in starts]
        self.matrices = [self._matrices(i) for i in range(len(starts))]
        x = tuple(_rows(start) for start in starts)
        zero = torch.zeros(len(filled), device=self.generator.device)
        batch = Batch(
            [Lane(i, self._streams(image_id)) for i, image_id in zip(filled, ids, strict=True)],
            base,
            x,
            tuple(self.descent.optimizer.start(v) for v in x),
            self.objective.reference(filled),
            zero.long(),
            zero.long(),
            zero + math.inf,
            zero + math.inf,
        )
        return batch.select(range(real))

    def _matrices(self, variable: int) -> list[Matrix]:
        """Where the matrices of a variable's rows are; a filter [O, I, k, k] counts as [O, I*k*k]."""
        out, at = [], 0
        for name, shape in self.shapes[variable].items():
            size = shape.numel()
            if self.descent.variables[variable].is_matrix(name):
                out.append(Matrix(at, shape[0], size // shape[0]))
            at += size
        return out

    def _streams(self, image_id: str) -> Callable[[str], torch.Generator]:
        return functools.partial(self.context.stream, image_id)  # a way through self, which holds the lanes, is a cycle

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step. Returns the losses [B] and which lanes were running [B]."""
        recorded = self._recorded(batch) if fast.fast_path() == "graph" else None
        if recorded is None:
            out = self.advance(batch)
        else:
            batch = self.batch = recorded.load(batch)
            loss, under_way = recorded.step()
            out = loss, under_way
        for lane in batch.lanes:
            lane.steps += 1  # of finished lanes too: what counts is ``batch.count``
        return out

    def _recorded(self, batch: Batch) -> Recording | None:
        """The step as a graph for this number of lanes; None if none can be made."""
        if self._recording is None or not self._recording.fits(batch):
            self._recording = None  # its memory goes before the next one is made
            try:
                self._recording = Recording(self._drawing_from, batch)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a capture can raise
                fast.give_up(error)
        return self._recording

    def _drawing_from(self, draws: Draws, batch: Batch) -> tuple[Tensor, Tensor]:
        """``advance`` of a batch whose random numbers are ``draws``."""
        before, self.batch, self.draws = self.batch, batch, draws
        try:
            return self.advance(batch)
        finally:
            self.batch, self.draws = before, None

    def advance(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Render, measure, decide who stops, move the rest: what a step does on the device, all of it in the batch's tensors.
        Nothing here asks the device for a number."""
        descent = self.descent
        loss, distance, gradients = self._differentiate(batch)
        under_way = batch.reason == 0
        self._decide(batch, loss, distance)
        move = batch.reason == 0
        factors = self._factors(descent.schedule, batch)
        parts = zip(descent.variables, batch.x, gradients, batch.state, self.matrices, strict=True)
        for variable, x, gradient, state, matrices in parts:
            lr = (variable.lr or descent.lr) * factors[:, None]
            descent.optimizer.step(x, gradient, loss, lr, batch.count, move, state, matrices)
        for i, variable in enumerate(descent.variables):
            bounded = variable.constrain(self._views(i, batch.x[i]))
            if bounded is not None:
                batch.x[i].copy_(torch.where(move[:, None], _rows(bounded), batch.x[i]))
        batch.count += move
        batch.reason.masked_fill_(move & (batch.count >= descent.steps), CAP)
        return loss, under_way

    def _differentiate(self, batch: Batch) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """Losses [B], perceptual distances [B], and the gradient to each variable's rows; compiled where that is asked for."""
        if fast.fast_path() != "step":
            return self._gradients(batch, _measured)
        try:
            return self._gradients(batch, _compiled_measured())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler, or the lack of one, can raise
            fast.give_up(error)
            return self._gradients(batch, _measured)

    def _gradients(self, batch: Batch, measured: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Any]:
        leaves = [x.detach().requires_grad_(True) for x in batch.x]
        with torch.enable_grad():
            values = [self._views(i, leaf) for i, leaf in enumerate(leaves)]
            code = self._put(batch.base, values, self)
            loss, distance = measured(self.generator, self.objective, code, batch.reference)
            for variable, given in zip(self.descent.variables, values, strict=True):
                penalty = variable.penalty(given)
                loss = loss if penalty is None else loss + penalty
            if self.descent.extra_loss is not None:
                loss = loss + self.descent.extra_loss(code, self)
            gradients = torch.autograd.grad(loss.sum(), leaves)
        return loss.detach(), distance.detach(), gradients

    def _decide(self, batch: Batch, loss: Tensor, distance: Tensor) -> None:
        """Why lanes under way stop now, on the device."""
        stop, reason = self.descent.stop, batch.reason
        under_way = reason == 0
        reason.masked_fill_(under_way & ~torch.isfinite(loss), NOT_FINITE)
        if stop.below is not None:
            reason.masked_fill_(under_way & (distance <= stop.below), THRESHOLD)
        if stop.patience is not None:
            batch.best.copy_(torch.minimum(batch.best, loss))
            due = under_way & (batch.count % stop.patience == 0)
            stuck = due & (batch.best > (1 - stop.tolerance) * batch.mark)
            reason.masked_fill_(stuck & (reason == 0), PLATEAU)
            batch.mark.copy_(torch.where(due, batch.best, batch.mark))

    def _look(self, history: list[tuple[Tensor, Tensor]]) -> None:
        """See which lanes are finished, keep their results and let others in."""
        batch = self.batch
        assert batch is not None
        self._record(batch, history)
        reasons, counts = batch.reason.tolist(), batch.count.tolist()
        done = [i for i in range(len(batch.lanes)) if reasons[i]]
        if not done:
            if self.waiting and len(batch.lanes) < self.most:  # there is room for more than the run began with
                self._fill()
            return
        with torch.no_grad():
            x = [self.descent.optimizer.result(x, s) for x, s in zip(batch.x, batch.state, strict=True)]
            code = self._put(batch.base, [self._views(i, v) for i, v in enumerate(x)], None).detach()
        for i in done:
            lane = batch.lanes[i]
            lane.steps = counts[i]
            self.results[lane.index] = code[i].map(torch.clone), lane, REASONS[reasons[i]]
        going = [i for i in range(len(batch.lanes)) if not reasons[i]]
        self.batch = batch.select(going) if going else None
        self._fill()

    def _record(self, batch: Batch, history: list[tuple[Tensor, Tensor]]) -> None:
        if not history:
            return
        losses = torch.stack([loss for loss, _ in history]).tolist()
        under_way = torch.stack([mask for _, mask in history]).tolist()
        for row, mask in zip(losses, under_way, strict=True):
            for i, lane in enumerate(batch.lanes):
                if mask[i]:
                    lane.curve.append(row[i])

    def _halve(self, history: list[tuple[Tensor, Tensor]]) -> None:
        """The device's memory is full: half of the lanes wait as they are, and none begins again."""
        batch = self.batch
        assert batch is not None
        self._record(batch, history)
        half = len(batch.lanes) // 2
        if half == 0:
            raise torch.OutOfMemoryError("the memory of the device does not hold one image of this method")
        self.most = half
        self.parked.append(batch.select(range(half, len(batch.lanes))))
        self.batch = self._padded(batch.select(range(half)))
        if self.generator.device.type == "cuda":
            torch.cuda.empty_cache()

    def _views(self, variable: int, x: Tensor) -> dict[str, Tensor]:
        """The tensors of a variable, of its rows x [B, D]."""
        shapes = self.shapes[variable]
        parts = x.split([shape.numel() for shape in shapes.values()], dim=1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def _put(self, base: Code, values: list[dict[str, Tensor]], moment: DescentStep | None) -> Code:
        for variable, given in zip(self.descent.variables, values, strict=True):
            base = variable.put(base, given, self.generator, moment)
        return base


def _measured(generator: Generator, objective: Objective, code: Code, reference: Any) -> tuple[Tensor, Tensor]:
    """Nearly all that a step computes, and free of random numbers and of schedules: what can be compiled."""
    return objective(generator.synthesize(code), code, reference)


@functools.cache
def _compiled_measured() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(_measured)


def _rows(values: Mapping[str, Tensor]) -> Tensor:
    """Tensors [B, ...] side by side: [B, D]."""
    return torch.cat([value.reshape(len(value), -1) for value in values.values()], dim=1)
