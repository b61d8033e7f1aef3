"""The training loop: a learner, batches, an optimiser. It knows neither files nor clusters."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ganinv.errors import ConfigError
from ganinv.training.batches import BatchSource
from ganinv.training.learner import Learner, Look
from ganinv.training.parallel import average_gradients, same_start
from ganinv.training.recipe import Recipe
from ganinv.training.step import Step


class TrainingStopped(ConfigError):
    """The training cannot continue as configured."""


class Trainer:
    """``step()`` trains on one batch; ``state()`` and ``load()`` save and restore a checkpoint exactly.

    Args:
        build: makes the learner. It is called with torch's global random stream seeded by the recipe; the stream is restored
            afterwards.
        rank, world: this worker, and how many train together; each takes its share of every batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        build: Callable[[], Learner],
        batches: BatchSource,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if recipe.batch_size % world:
            raise ConfigError(
                f"a batch of {recipe.batch_size} cannot be shared by {world} workers: make batch_size a multiple of it"
            )
        self.recipe, self.batches, self.rank, self.world = recipe, batches, rank, world
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.learner = build()
        same_start(self.learner.network, world)
        self.steps_done = 0
        self.best = math.inf
        self._enter(recipe.phase(0))

    def _enter(self, phase: int) -> None:
        """Begin a phase of the training, with a new optimiser and running mean."""
        self.phase, self.phase_began = phase, self.steps_done
        self.optimizer = self.recipe.optimizers(self.learner.network, phase)
        self.mean = self._weights() if self.recipe.ema else None

    @contextlib.contextmanager
    def finished(self) -> Iterator[nn.Module]:
        """The network as it would be saved now: in evaluation mode, with the running mean of its weights if there is one."""
        network, trained = self.learner.network, None
        if self.mean is not None:
            trained = self._weights()
            network.load_state_dict(self.mean)
        try:
            yield network.eval()
        finally:
            if trained is not None:
                network.load_state_dict(trained)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.learner.network.state_dict().items()}

    def step(self) -> dict[str, float]:
        """Train on the next batch. Returns the losses: each term of the last pass that has it, and the weighted ``total``.

        Raises:
            TrainingStopped: the loss is not finite. Nothing was changed by this step.
        """
        recipe, number = self.recipe, self.steps_done
        step = Step(number, recipe.steps, recipe.seed, self.rank, self.world)
        if number == 0:
            self.learner.begin(self.batches.images)
        if recipe.phase(number) != self.phase:
            self._enter(recipe.phase(number))
        self.learner.network.train()
        self.optimizer.scale(recipe.rate(number, recipe.steps))
        self.optimizer.zero_grad()
        batch = self.batches.batch(step)
        seen: dict[str, Tensor] = {}
        total = torch.zeros((), device=batch.images.device)
        precision = torch.autocast(batch.images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
        with _drawing_from(step, batch.images.device), precision:
            for terms in self.learner.passes(batch, step):
                loss = reduce(torch.add, (weight * value.float() for weight, value in terms.values() if weight))
                with torch.autocast(batch.images.device.type, enabled=False):
                    loss.backward()
                total += loss.detach()
                seen |= {name: value.detach() for name, (_, value) in terms.items()}
        losses = self._agreed({**seen, "total": total})
        if not math.isfinite(losses["total"]):
            raise TrainingStopped(
                f"the loss is not finite at step {number + 1}: the last checkpoint stays. Lower optimizer.lr, or set "
                "clip_norm, and train under another name"
            )
        parameters = [p for p in self.learner.network.parameters() if p.requires_grad]
        average_gradients(parameters, self.world)
        if recipe.clip_norm is not None:
            losses["gradient_norm"] = float(nn.utils.clip_grad_norm_(parameters, recipe.clip_norm))
        self.optimizer.step()
        self._update_mean()
        self.steps_done += 1
        return {"step": float(self.steps_done)} | losses

    def _agreed(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers of this step, the mean of all workers' where there are several; one copy from the device."""
        stacked = torch.stack([value.float() for value in values.values()])
        if self.world > 1:
            torch.distributed.all_reduce(stacked)
            stacked /= self.world
        return dict(zip(values, stacked.tolist(), strict=True))

    @torch.no_grad()
    def _update_mean(self) -> None:
        if self.mean is None or self.recipe.ema is None:
            return
        since = self.steps_done - self.phase_began
        kept = 0.5 ** (1 / min(self.recipe.ema, max(1.0, since * self.recipe.ema_rampup)))
        own = self.learner.network.state_dict()
        for name, slow in self.mean.items():
            if slow.is_floating_point():
                slow.lerp_(own[name], 1 - kept)
            else:
                slow.copy_(own[name])

    @torch.no_grad()
    def validate(self, images: Tensor, target: Tensor | None = None) -> Look:
        """Validate the learner, as it would be saved now, on held-out images [N, C, R, R].

        Args:
            target: the images to reconstruct, if the given ones are degraded.
        """
        with self.finished():
            return self.learner.look(images, images if target is None else target)

    def state(self) -> dict[str, Any]:
        """Everything needed to continue from exactly this step."""
        return {
            "kind": self.recipe.kind,
            "steps_done": self.steps_done,
            "phase": self.phase,
            "phase_began": self.phase_began,
            "best": self.best,
            "network": self.learner.network.state_dict(),
            "mean": self.mean,
            "optimizer": self.optimizer.state_dict(),
            "players": {name: player.state_dict() for name, player in self.learner.players.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ConfigError: it is of another recipe.
        """
        if state.get("kind") != self.recipe.kind:
            raise ConfigError(
                f"this checkpoint is of a {state.get('kind')} training, the recipe is for {self.recipe.kind}: train under "
                "another name"
            )
        if (phase := state.get("phase", self.phase)) != self.phase:
            self._enter(phase)
        self.phase_began = state.get("phase_began", 0)
        self.learner.network.load_state_dict(state["network"])
        if self.mean is not None:
            self.mean = {name: tensor.clone() for name, tensor in state["mean"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        for name, player in self.learner.players.items():
            player.load_state_dict(state["players"][name])
        self.steps_done, self.best = state["steps_done"], state["best"]


@contextlib.contextmanager
def _drawing_from(step: Step, device: torch.device) -> Iterator[None]:
    """Within, torch's global stream is the step's own: what networks draw themselves, as dropout does, comes from it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(step.stream("networks").initial_seed())
        yield
