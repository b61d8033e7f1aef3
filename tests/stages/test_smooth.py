"""Codes of frames, smoothed along time."""

from __future__ import annotations

import logging

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.frames import frame_order, sequence_of
from ganinv.stages.base import Context
from ganinv.stages.smooth import Smooth, smoothed
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(tiny_generator(), lambda name: None)


def smooth(context: Context, w: torch.Tensor, ids: list[str], **settings: float) -> torch.Tensor:
    side = context.generator.resolution
    target = Target(torch.zeros(len(w), 3, side, side), ids)
    return Smooth(**settings)(target, Code(w), context).code.w  # type: ignore[arg-type]


def test_frames_are_ordered_by_the_numbers_in_their_names() -> None:
    ids = ["b/2", "b/10", "a/x9", "b/1", "a/x10", "lone"]
    assert frame_order(["f10", "f9", "f1.5", "f1"]) == ["f1", "f1.5", "f9", "f10"]
    assert [sequence_of(i) for i in ids] == ["b", "b", "a", "b", "a", ""]
    assert frame_order(ids) == ["a/x9", "a/x10", "b/1", "b/2", "b/10", "lone"]


def test_what_is_steady_stays_and_what_jitters_goes() -> None:
    time = torch.arange(30.0)
    steady = torch.full((30, 2, 3), 1.5)
    torch.testing.assert_close(smoothed(steady, 1.0), steady)
    ramp = (0.1 * time)[:, None, None].expand(30, 2, 3)
    torch.testing.assert_close(smoothed(ramp, 1.0)[3:-3], ramp[3:-3])
    jitter = torch.where(time % 2 == 0, 1.0, -1.0)[:, None, None].expand(30, 2, 3)
    assert smoothed(ramp + jitter, 1.0)[3:-3].sub(ramp[3:-3]).abs().max() < 0.02
    assert smoothed(jitter, 0.0) is jitter


def test_a_single_impulse_becomes_the_gaussian() -> None:
    impulse = torch.zeros(15, 1, 1)
    impulse[7] = 1
    found = smoothed(impulse, 1.5).flatten()
    expected = torch.exp(-((torch.arange(15.0) - 7) ** 2) / 4.5) * ((torch.arange(15.0) - 7).abs() <= 4.5)
    torch.testing.assert_close(found[6:9] / found[7], expected[6:9])
    assert found[2] == 0, "more than three sigma away"


def test_frames_are_smoothed_in_the_order_of_their_names_and_not_across_a_cut(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    g = context.generator
    a, b = random_w(g, 1, seed=1), 30 + random_w(g, 1, seed=2)
    walk = torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(0)) * torch.arange(12.0)[:, None, None] * 0.01
    w = torch.cat([a + walk[:6], b + walk[6:]])
    ids = [f"v/{k}" for k in (8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)]
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    with caplog.at_level(logging.WARNING, "ganinv"):
        found = smooth(context, w[shuffled], [ids[k] for k in shuffled])
    back = torch.empty_like(found)
    back[shuffled] = found
    torch.testing.assert_close(back, torch.cat([smoothed(w[:6], 1.0), smoothed(w[6:], 1.0)]))
    assert "from frame 'v/13' to 'v/14' the latent jumps" in caplog.text
    assert "a cut, or another person" in caplog.text


def test_one_frame_is_said_and_codes_are_needed(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    w = random_w(context.generator, 1, seed=1)
    with caplog.at_level(logging.WARNING, "ganinv"):
        assert torch.equal(smooth(context, w, ["v/1"]), w)
    assert "'v/1' is the only frame of 'v': there is nothing to smooth" in caplog.text
    with pytest.raises(ConfigError, match="put an encode stage before it"):
        Smooth()(Target(torch.zeros(1, 3, 8, 8)), None, context)
