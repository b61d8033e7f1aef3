"""Which part of an image a pixel belongs to: templates and networks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from ganinv.config import config_names
from ganinv.errors import ConfigError, DataError, WeightsRefused
from ganinv.labels.segmenters import open_segmenter, shrink


def write(folder: Path, **config: Any) -> str:
    path = folder / "segmenter.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", **config}, sort_keys=False))
    return str(path)


def test_shapes_are_painted_in_order(tmp_path: Path) -> None:
    shapes = [
        {"region": "face", "ellipse": [0.5, 0.5, 0.25, 0.25]},
        {"region": "mouth", "box": [0.5, 0.5, 1.0, 0.625]},
    ]
    segmenter = open_segmenter(write(tmp_path, kind="template", shapes=shapes))
    assert segmenter.regions == ("others", "face", "mouth")
    found = segmenter(torch.zeros(2, 3, 8, 8))
    assert found.shape == (2, 8, 8)
    assert found[1].tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 2, 2, 2, 2],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_the_default_template_has_every_region_where_it_belongs() -> None:
    segmenter = open_segmenter("aligned-face")
    regions = segmenter(torch.zeros(1, 3, 64, 64))[0]
    expected = {
        (30, 23): "eye",
        (30, 41): "eye",
        (46, 32): "mouth",
        (36, 32): "nose",
        (20, 32): "skin",
        (2, 2): "background",
    }
    for (y, x), region in expected.items():
        assert segmenter.regions[int(regions[y, x])] == region
    assert "others" not in {segmenter.regions[i] for i in regions.unique().tolist()}
    assert set(regions.unique().tolist()) == set(range(1, len(segmenter.regions)))
    assert (regions == regions.flip(1)).float().mean() > 0.97  # faces are symmetric


def test_majority_vote() -> None:
    regions = torch.zeros(1, 4, 4, dtype=torch.int64)
    regions[0, :2, :2] = torch.tensor([[2, 2], [2, 1]])
    regions[0, 2:, 2:] = torch.tensor([[1, 1], [0, 0]])
    assert shrink(regions, 2, 3).tolist() == [[[2, 0], [0, 0]]]


class Parser(torch.nn.Module):
    """Three classes by brightness, at half the size, with an auxiliary head."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        grey = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2)
        return torch.cat([-grey, 0.3 - grey.abs(), grey], 1), grey


def test_a_network_with_its_classes_merged(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Parser(), torch.zeros(1, 3, 16, 16)), str(tmp_path / "parser.ts"))
    given = {"kind": "torchscript", "weights": "parser.ts", "input": {"size": 16}}
    segmenter = open_segmenter(write(tmp_path, **given, classes={"sky": [2], "ground": [0]}))
    assert segmenter.regions == ("others", "sky", "ground")
    images = torch.full((1, 3, 32, 32), -0.8)
    images[:, :, :16] = 0.8
    images[:, :, 12:20, :16] = 0.0
    regions = segmenter(images)
    assert regions.shape == (1, 32, 32)
    assert (regions[0, 0, 0], regions[0, 31, 31], regions[0, 16, 4]) == (1, 2, 0)
    segmenter = open_segmenter(write(tmp_path, **given, classes={"sky": [7]}))
    with pytest.raises(ConfigError, match="has 3 classes, 'sky' asks for 7"):
        segmenter(images)
    with pytest.raises(DataError, match="square images"):
        segmenter(images[:, :, :16])


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    assert config_names("segmenters") == ["aligned-face", "face-parsing-19"]
    with pytest.raises(WeightsRefused, match="no file"):
        open_segmenter("face-parsing-19")
    with pytest.raises(ConfigError, match="either box or ellipse"):
        open_segmenter(write(tmp_path, kind="template", shapes=[{"region": "face"}]))
    with pytest.raises(ConfigError, match="unknown segmenter 'aligned-fae', did you mean 'aligned-face'"):
        open_segmenter("aligned-fae")
