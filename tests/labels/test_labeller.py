from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from ganinv.errors import ConfigError, DataError, WeightsRefused
from ganinv.labels import labeller_names, open_labeller, read_card
from ganinv.labels.inputs import resize_images
from ganinv.labels.opening import labeller_folder
from ganinv.training.attribute_table import ATTRIBUTES, BINARY, measure, read_portraits

SHARED = Path(os.environ.get("GANINV_SHARED", Path(__file__).parents[2].parent / "shared"))
PORTRAITS = SHARED / "data/official-portraits/portraits.parquet"


@pytest.fixture
def images() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(7, 3, 8, 8, generator=rng) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")


def test_shipped_labellers_open_and_declare_their_scores() -> None:
    assert "portraits-64" in labeller_names()
    for name in labeller_names():
        labeller, card = open_labeller(name), read_card(name)
        assert labeller.identity == f"{name}@{card.version}"
        assert labeller.weights_sha256 == card.weights_sha256
        assert all(attribute.positive_means for attribute in labeller.attributes.values())
        assert (labeller_folder(name) / "weights.safetensors").stat().st_size < 1_100_000
        assert "Chris McAndrew / UK Parliament, CC BY 3.0" in card.data
        assert (labeller_folder(name) / "MODEL_CARD.md").is_file()


def test_scores_have_a_name_and_a_row_per_image(images: torch.Tensor) -> None:
    scores = open_labeller("portraits-64")(images)
    assert tuple(scores) == ("glasses", "gender", "smile", "age", "yaw")
    assert all(s.shape == (7,) and s.dtype == torch.float32 and s.isfinite().all() for s in scores.values())


def test_scores_do_not_depend_on_the_batch(images: torch.Tensor) -> None:
    """docs/methods/attribute-labelling.md, check 3."""
    labeller = open_labeller("portraits-64")
    whole = labeller(images)
    for size in (1, 2, 5):
        parts = [labeller(part) for part in images.split(size)]
        for name, values in whole.items():
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [32, 64, 96, 128, 256])
def test_any_resolution_is_scored_alike(images: torch.Tensor, size: int) -> None:
    labeller = open_labeller("portraits-64")
    large = torch.nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    for name, values in labeller(large).items():
        assert (values - labeller(images)[name]).abs().max() < 1.5, name


def test_resize_rule() -> None:
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    blocks = images.view(2, 3, 64, 2, 64, 2).mean((3, 5))
    torch.testing.assert_close(resize_images(images, 64), blocks)
    assert resize_images(images[..., :90, :90], 64).shape == (2, 3, 64, 64)
    assert resize_images(blocks, 64) is blocks


def test_images_outside_the_range_are_clamped_and_others_refused(images: torch.Tensor) -> None:
    labeller = open_labeller("portraits-64")
    torch.testing.assert_close(labeller(images * 3)["age"], labeller((images * 3).clamp(-1, 1))["age"])
    with pytest.raises(DataError, match=r"\[B, 3, R, R\]"):
        labeller(images[:, :2])


def test_grey_images_are_scored_as_people_see_them(images: torch.Tensor) -> None:
    labeller = open_labeller("portraits-64")
    torch.testing.assert_close(labeller(images[:, :1])["age"], labeller(images[:, :1].repeat(1, 3, 1, 1))["age"])


def test_unknown_names_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"no labeller 'faces'; shipped are: .*portraits-64"):
        open_labeller("faces")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labeller"
    shutil.copytree(labeller_folder("portraits-64"), folder)
    assert open_labeller(str(folder)).name == "portraits-64"
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsRefused, match="restore both files"):
        open_labeller(str(folder))
    weights.unlink()
    with pytest.raises(WeightsRefused):
        open_labeller(str(folder))


def test_a_card_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labeller"
    shutil.copytree(labeller_folder("portraits-64"), folder)
    path = folder / "labeller.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "channels": [24, 48, 96, 64]}))
    with pytest.raises(WeightsRefused, match="does not fit its model card"):
        open_labeller(str(folder))
    path.write_text(json.dumps({**card, "colour": "red"}))
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        open_labeller(str(folder))
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot read"):
        open_labeller(str(folder))


@pytest.mark.seconds
@pytest.mark.skipif(not PORTRAITS.is_file(), reason="no official-portraits table (set GANINV_SHARED)")
def test_shipped_quality_is_what_the_card_says() -> None:
    labeller, card = open_labeller("portraits-64"), read_card("portraits-64")
    test = read_portraits(str(PORTRAITS)).test
    found = measure(labeller.net, test.images, test.labels)  # type: ignore[arg-type]
    for key, value in card.measured["clean"].items():
        assert found[key] == pytest.approx(value, abs=2e-3)
    # Signs, in words: mirrored faces look the other way, and only that changes much.
    straight, mirrored = labeller(test.images), labeller(test.images.flip(3))
    for i, name in enumerate(ATTRIBUTES):
        correlation = torch.corrcoef(torch.stack([straight[name], mirrored[name]]))[0, 1]
        assert correlation < -0.7 if name == "yaw" else correlation > 0.8
        high, low = (
            test.labels[:, i] > test.labels[:, i].quantile(0.9),
            test.labels[:, i] < test.labels[:, i].quantile(0.1),
        )
        if i >= BINARY:
            assert straight[name][high].mean() > straight[name][low].mean()
    assert straight["gender"][test.labels[:, 1] > 0.5].mean() > 0 > straight["gender"][test.labels[:, 1] < 0.5].mean()
