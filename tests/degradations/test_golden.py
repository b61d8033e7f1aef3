"""Parity with the originals' degradations (shared/golden/degradations)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ganinv.degradations.base import Image8
from ganinv.degradations.holes import Strokes, stroke, triangle
from ganinv.degradations.rain import drawn_out, enlarged, laid_over
from ganinv.degradations.sampling import Grey, Noise, resized, shrunk

Arrays = dict[str, np.ndarray]


def arrays(shared: Path, name: str) -> Arrays:
    return dict(np.load(shared / f"golden/degradations/{name}.npz", allow_pickle=False))


def close(found: Image8, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


def cases(of: Arrays, what: str) -> list[str]:
    return sorted({name.partition(".")[0] for name in of if name.startswith(what) and name[len(what)].isdigit()})


def test_rain(shared: Path) -> None:
    golden = arrays(shared, "uda")
    for case in cases(golden, "rain"):
        image, speed, angle = (golden[f"{case}.{name}"] for name in ("image_u8", "speed", "angle"))
        close(enlarged(golden[f"{case}.gated"], *image.shape[:2]), golden[f"{case}.resized"])
        close(drawn_out(golden[f"{case}.resized"], float(speed), float(angle)), golden[f"{case}.blurred"])
        close(laid_over(image, golden[f"{case}.blurred"]), golden[f"{case}.out_u8"])


def test_strokes(shared: Path) -> None:
    golden = arrays(shared, "uda")
    for case in cases(golden, "brush"):
        image = golden[f"{case}.image_u8"]
        points = [(int(x), int(y)) for x, y in golden[f"{case}.vertices"]]
        hole = stroke(image.shape[0], image.shape[1], points, int(golden[f"{case}.width"]))
        close(np.where(hole[:, :, None], np.uint8(255), image), golden[f"{case}.out_u8"])


@pytest.mark.seconds
def test_draws_of_strokes(shared: Path) -> None:
    golden, rng = arrays(shared, "uda"), np.random.default_rng(0)
    published = Strokes(width=(12 / 256, 80 / 256))
    covered = [published.draw(256, 256, rng).mean() for _ in range(1000)]
    quantiles = np.quantile(covered, (0.1, 0.25, 0.5, 0.75, 0.9))
    np.testing.assert_allclose(quantiles, golden["brush.draws_covered_quantiles"][1:-1], rtol=0.15)
    lengths = np.bincount([len(published._points(256, 256, rng)) for _ in range(1000)], minlength=12)[4:] / 1000
    np.testing.assert_allclose(lengths, golden["brush.draws_vertices_counts"] / 2000, atol=0.06)


def test_down_sampling(shared: Path) -> None:
    golden = arrays(shared, "uda")
    for case in cases(golden, "down"):
        close(shrunk(golden[f"{case}.image_u8"], int(golden[f"{case}.factor"])), golden[f"{case}.out_u8"])
    there = resized(golden["sr.image_u8"], 256, 256)
    close(resized(shrunk(there, 2), 256, 256), golden["sr.out"])


def test_restoration_inputs_of_e2style(shared: Path) -> None:
    golden = arrays(shared, "e2style")
    for case in cases(golden, "case"):
        stored = torch.from_numpy(golden[f"{case}.image_u8"]).permute(2, 0, 1)[None].float()
        # As it was trained: its sources are resized without antialiasing.
        image = F.interpolate(stored, (256, 256), mode="bilinear")[0].round().byte().permute(1, 2, 0).numpy()
        for task in ("colorization", "inpainting"):
            seen = image[:, ::-1] if golden[f"{case}.{task}.flipped"] else image
            if task == "colorization":
                done = Grey(weights=(0.114, 0.587, 0.299)).apply(seen, np.random.default_rng()).image
            else:
                corners = [(int(x), int(y)) for x, y in golden[f"{case}.inpainting.triangle"]]
                done = np.where(triangle(256, 256, corners)[:, :, None], np.uint8(0), seen)
            close(done, golden[f"{case}.{task}.source_u8"])


def test_noise_of_e2style(shared: Path) -> None:
    golden, grey = arrays(shared, "e2style"), np.full((128, 128, 3), 128, np.uint8)
    for name, share in (("gaussian", 0.0), ("s&p", 1.0)):
        noisy = Noise(salt_share=share).apply(grey, np.random.default_rng(0)).image
        found = noisy.mean(), noisy.std(), (noisy != grey).mean()
        wanted = [float(golden[f"noise.{name}.{number}"]) for number in ("mean", "std", "changed")]
        np.testing.assert_allclose(found, wanted, rtol=0.02)
