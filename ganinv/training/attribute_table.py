"""Labelled portraits: a table of images, labels and splits, and how well scores agree with its labels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ganinv.errors import DataError
from ganinv.labels.attributes import AttributeNet

ATTRIBUTES = ("glasses", "gender", "smile", "age", "yaw")
BINARY = 3
"""The first three attributes are logits, the rest standardised values."""
YAW = ATTRIBUTES.index("yaw")
COLUMNS = [
    "id",
    "split",
    "gender",
    "gender_source",
    "p_male",
    "p_happy",
    "p_glasses",
    "glasses_hand",
    "age_pred",
    "yaw",
]
IMAGE = "jpeg128"


@dataclass(frozen=True)
class LabelledImages:
    """Images [N, 3, R, R] in [-1, 1] and labels [N, 5]: three probabilities, then age in years and yaw."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Portraits:
    """The labels of all images but the test split's, by id, and the test split.

    Args:
        train: id -> labels [5].
    """

    train: Mapping[str, Tensor]
    test: LabelledImages

    @property
    def stacked(self) -> Tensor:
        """Labels [N, 5] of all images but the test split's."""
        return torch.stack(list(self.train.values()))


def read_portraits(url: str, size: int = 64) -> Portraits:
    """Labels of the ``official-portraits`` table at any fsspec URL, and its test images, reduced by block averages.

    Recorded genders and hand-made glasses labels win over predicted probabilities.

    Raises:
        DataError: the table cannot be read or lacks a column, or one of the splits is empty.
    """
    try:
        with fsspec.open(url, "rb") as file:
            parquet = pq.ParquetFile(file)
            missing = sorted({*COLUMNS, IMAGE} - set(parquet.schema_arrow.names))
            rows = {} if missing else parquet.read(columns=COLUMNS, use_threads=False).to_pydict()
            test = np.array([split == "test" for split in rows.get("split", [])], bool)
            shown = [] if missing else parquet.read(columns=[IMAGE], use_threads=False).filter(test)[IMAGE].to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read labelled portraits from {url!r}: {error}") from error
    if missing:
        raise DataError(
            f"{url!r} lacks the columns {missing}; expected the official-portraits table with {[*COLUMNS, IMAGE]}"
        )
    if not 0 < test.sum() < len(test):
        raise DataError(f"{url!r} has {test.sum()} test portraits of {len(test)}: a training needs some of each kind")
    recorded = [not source.startswith("predicted") for source in rows["gender_source"]]
    male = np.where(recorded, np.array(rows["gender"]) == "M", np.array(rows["p_male"]))
    hand = np.array(rows["glasses_hand"])
    glasses = np.where(hand >= 0, hand, np.array(rows["p_glasses"]))
    labels = torch.from_numpy(np.stack([glasses, male, rows["p_happy"], rows["age_pred"], rows["yaw"]], axis=1)).float()
    pixels = np.stack([_decode(content, size) for content in shown])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    train = {str(name): row for name, row, is_test in zip(rows["id"], labels, test, strict=True) if not is_test}
    return Portraits(train, LabelledImages(images, labels[torch.from_numpy(test)]))


def _decode(content: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX))


@torch.no_grad()
def measure(net: AttributeNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Area under the ROC curve for logits (against labels above one half), correlation for values."""
    scores = torch.cat([net(part).cpu() for part in images.split(256)])
    measured = {}
    for i, name in enumerate(ATTRIBUTES):
        score, label = scores[:, i].double().numpy(), labels[:, i].double().numpy()
        if i < BINARY:
            measured[f"{name}_auc"] = round(area_under_curve(score, label > 0.5), 4)
            measured[f"{name}_accuracy"] = round(float(((score > 0) == (label > 0.5)).mean()), 4)
        else:
            measured[f"{name}_correlation"] = round(float(np.corrcoef(score, label)[0, 1]), 4)
    return measured


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (NaN without both kinds)."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


@torch.no_grad()
def calibrate(net: AttributeNet, test: LabelledImages) -> None:
    """Make the logits log-odds: each of the three gets the slope and offset that fit the test split best (Platt 1999)."""
    scores = torch.cat([net(part) for part in test.images.split(256)])
    for i in range(BINARY):
        positive = (test.labels[:, i] > 0.5).numpy()
        if positive.all() or not positive.any():
            continue
        fitted = LogisticRegression().fit(scores[:, i : i + 1].numpy(), positive)
        slope, offset = max(float(fitted.coef_[0, 0]), 1e-3), float(fitted.intercept_[0])
        head, row = (net.eyes.head, 0) if i == 0 and net.eyes is not None else (net.head, i)
        head.weight[row] *= slope
        head.bias[row] = head.bias[row] * slope + offset
