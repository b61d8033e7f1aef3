"""Folders of the interactive version of ChunkyGAN become codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.chunkmogrify import read_chunks
from ganinv.code import Code
from ganinv.errors import WeightsRefused
from tests.tiny import random_w, tiny_generator


def test_a_folder_renders_what_its_latents_render(tmp_path: Path) -> None:
    g = tiny_generator()
    w = random_w(g, 11)
    for k in range(11):
        torch.save(w[k : k + 1].clone().requires_grad_(True), tmp_path / f"{k:02d}_w.pt")
    (tmp_path / "00.png").write_bytes(b"")
    masks, photo = torch.zeros(11, 32, 32), torch.rand(3, 32, 32)
    for k in range(11):
        masks[k, :, 2 * k : 2 * k + 2] = 1
    code = read_chunks(tmp_path, masks, photo)
    assert code.segments is not None
    assert code.segments.names[9:] == ("9", "10")
    image, alone = g.render(code), g.render(Code(w))
    for k in range(11):
        columns = slice(2 * k, 2 * k + 2)
        torch.testing.assert_close(image[0, :, :, columns], alone[k, :, :, columns], atol=1e-4, rtol=0)
    assert torch.equal(image[0, :, :, 22:], photo[:, :, 22:])
    torch.testing.assert_close(code.w[0], w.mean(0))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match="has 0 latents"):
        read_chunks(tmp_path, torch.ones(1, 8, 8))
    torch.save(torch.zeros(1, 4, 8), tmp_path / "00_w.pt")
    with pytest.raises(WeightsRefused, match=r"has 1 latents \['00_w.pt'\] and there are 2 masks"):
        read_chunks(tmp_path, torch.ones(2, 8, 8))
    for wrong in (torch.zeros(4, 8), torch.full((1, 4, 8), float("nan")), {"w": torch.zeros(1, 4, 8)}):
        torch.save(wrong, tmp_path / "00_w.pt")
        with pytest.raises(WeightsRefused, match=r"00_w\.pt is no latent"):
            read_chunks(tmp_path, torch.ones(1, 8, 8))
