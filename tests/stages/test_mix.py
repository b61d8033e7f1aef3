"""Rows from random latents: pSp's several outputs for one input."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.stages.base import Context
from ganinv.stages.mix import Mix
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


def mixed(g: Generator, ids: list[str], seed: int = 0, **given: object) -> torch.Tensor:
    stage = validate(Mix, {"rows": [4, 5, 7], **given}, "test")
    context = Context(g, lambda name: pytest.fail(f"opened {name}"), seed=seed)
    code = Code(w=random_w(g, 3, seed=2)[[("a", "b", "c").index(i) for i in ids]])
    return stage(Target(torch.zeros(len(ids), 3, 32, 32), ids), code, context).code.w


def test_rows_come_from_the_images_own_random_latent() -> None:
    g = tiny_generator()
    before, w = random_w(g, 3, seed=2), mixed(g, ["a", "b", "c"])
    assert torch.equal(w[:, [0, 1, 2, 3, 6]], before[:, [0, 1, 2, 3, 6]])
    assert (w[:, [4, 5, 7]] != before[:, [4, 5, 7]]).any(2).all()
    assert torch.equal(w[:, 4], w[:, 7])  # one latent for all rows
    assert not torch.equal(w[0, 4], w[1, 4])
    torch.testing.assert_close(mixed(g, ["c", "a"]), w[[2, 0]])
    assert not torch.equal(mixed(g, ["a"], seed=1)[0, 4], w[0, 4])


def test_part_of_the_way_and_to_the_mean() -> None:
    g = tiny_generator()
    before, w = random_w(g, 3, seed=2), mixed(g, ["a", "b", "c"])
    torch.testing.assert_close(mixed(g, ["a", "b", "c"], alpha=0.25), before.lerp(w, 0.25))
    mean = mixed(g, ["a", "b", "c"], inject="mean")
    torch.testing.assert_close(mean[:, 5], g.w_mean.expand(3, -1))


def test_rows_that_are_not_there_are_refused() -> None:
    g = tiny_generator()
    with pytest.raises(ConfigError, match="has row 17, and generator 'tiny' has rows 0 to 7"):
        mixed(g, ["a"], rows=[8, 17])
    with pytest.raises(ConfigError, match="rows must be different and not negative"):
        mixed(g, ["a"], rows=[1, 1])
    stage, context = validate(Mix, {"rows": [1]}, "test"), Context(g, lambda name: pytest.fail(f"opened {name}"))
    with pytest.raises(ConfigError, match="put an encode stage before it"):
        stage(Target(torch.zeros(1, 3, 32, 32)), None, context)
