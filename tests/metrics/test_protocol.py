from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ganinv.config import validate
from ganinv.errors import ConfigError, DataError
from ganinv.labels import open_labeller
from ganinv.metrics import EvaluationProtocol, evaluate_edit, evaluate_inversion, mse, psnr, ssim
from ganinv.metrics.protocol import prepare


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(5, 3, 8, 8, generator=rng) * 2 - 1
    source = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    # Generators leave [-1, 1].
    return source, source * 1.3 + 0.1 * torch.randn(source.shape, generator=rng)


def l1(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().mean((1, 2, 3))


def test_every_column_per_image(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    source, rendered = images
    labeller = open_labeller("portraits-64")
    columns = evaluate_inversion(source, rendered, l1, labeller)
    scores = {f"score_{name}{end}" for name in labeller.attributes for end in ("", "_source")}
    assert set(columns) == {"mse", "psnr", "ssim", "ms_ssim", "distance"} | scores
    assert all(value.shape == (5,) and value.dtype == np.float32 for value in columns.values())
    clamped = rendered.clamp(-1, 1)
    for name, metric in {"mse": mse, "psnr": psnr, "ssim": ssim, "distance": l1}.items():
        np.testing.assert_allclose(columns[name], metric(source, clamped).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(columns["score_smile_source"], labeller(source)["smile"].numpy())
    assert np.isnan(columns["ms_ssim"]).all()


def test_partitions_do_not_change_values(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    source, rendered = images
    labeller = open_labeller("portraits-64")
    whole = evaluate_inversion(source, rendered, l1, labeller)
    parts = [evaluate_inversion(source[i : i + 1], rendered[i : i + 1], l1, labeller) for i in range(5)]
    for name, values in whole.items():
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts]), values, atol=1e-5)


def test_edits_are_measured_against_the_unedited_rendering(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    labeller = open_labeller("portraits-64")
    columns = evaluate_edit(images[0], images[1], labeller)
    assert set(columns) == {f"score_{name}{end}" for name in labeller.attributes for end in ("", "_before")}
    np.testing.assert_array_equal(columns["score_age_before"], labeller(images[0])["age"].numpy())


def test_the_digest_names_every_setting() -> None:
    protocol = EvaluationProtocol(distance="embedded", labeller="portraits-64@1", code_version="0.1.0")
    same = validate(EvaluationProtocol, protocol.model_dump(mode="json"), "protocol")
    assert same.digest == protocol.digest
    assert protocol.name == "inversion-2"
    for change in ({"resize": 256}, {"peak": 1.0}, {"distance": "lpips"}, {"labeller": "portraits-64@2"}):
        assert protocol.model_copy(update=change).digest != protocol.digest
    with pytest.raises(ConfigError, match="did you mean 'resize'"):
        validate(EvaluationProtocol, {"resise": 256}, "protocol")


@pytest.mark.parametrize("size", [24, 64])
def test_resize_agrees_with_pil(size: int) -> None:
    """docs/methods/metrics.md, check 6, to the rounding of PIL's 8-bit output (PIL rounds after each axis)."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = (prepare(images, EvaluationProtocol(resize=size))[0].permute(1, 2, 0).numpy() + 1) * 127.5
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(found - expected).max() < 1.01


def test_batches_that_do_not_pair_up_are_refused(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(DataError, match="must pair up"):
        evaluate_inversion(images[0], images[1][:2])
    with pytest.raises(DataError, match="must pair up"):
        evaluate_edit(images[0], images[1][:2], open_labeller("portraits-64"))
