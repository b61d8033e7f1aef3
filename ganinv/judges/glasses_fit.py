"""Fit the glasses probe: ``python -m ganinv.judges.glasses_fit --data portraits.parquet --out ganinv/judges/assets/glasses``.

The probe is fitted on the train split. Labels are hand-made where there are any, else predictions; doubtful ones are left out.
Each portrait is used as it is, mirrored, and blurred, because generated faces are softer than photographs. The probe is
calibrated and measured on the test split.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.numpy import save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ganinv.data import open_dataset
from ganinv.errors import DataError
from ganinv.judges.faces import FaceJudge
from ganinv.judges.glasses import ASSETS, eye_features
from ganinv.judges.squeezenet import SqueezeNet

STRENGTH = 0.003  # of the fit: the inverse of its L2 penalty, on standardised features
SURE = 0.3  # a label counts in the fit when it is this far from one half
COLUMNS = ["id", "split", "p_glasses", "glasses_hand"]


def fit_probe(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """(coefficients [D], bias) of a logistic regression on features [N, D] and labels [N] of 0 and 1.

    Raises:
        DataError: all labels are the same.
    """
    if len(set(labels.tolist())) < 2:
        raise DataError(f"a probe needs faces with and without glasses, got {len(labels)} labels of one kind")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500))
    pipeline.fit(features, labels)
    scaler, regression = pipeline[0], pipeline[1]
    coefficients = regression.coef_[0] / scaler.scale_
    return coefficients, float(regression.intercept_[0] - scaler.mean_ @ coefficients)


def calibrate_probe(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(slope, offset) that turn scores [N] into log-odds of labels [N] (Platt 1999)."""
    fitted = LogisticRegression(C=1e6).fit(scores[:, None], labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def blurred(images: Tensor) -> Tensor:
    """Images [N, 3, R, R] reduced to the detail of half as many pixels a side."""
    return F.interpolate(F.avg_pool2d(images, 2), images.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)


def measure_probe(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve, accuracy, and how many wearers and non-wearers are classified correctly."""
    wears = labels > 0.5
    said = scores > 0
    return {
        "images": len(labels),
        "wearers": int(wears.sum()),
        "auc": round(float(roc_auc_score(wears, scores)), 4),
        "accuracy": round(float((said == wears).mean()), 4),
        "wearers_found": round(float(said[wears].mean()), 4),
        "others_left_alone": round(float((~said[~wears]).mean()), 4),
    }


def read_labels(url: str, split: str, size: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """(images [N, 3, R, R], probability that they wear glasses [N], whether a person said so [N]) of the portraits' table.

    Raises:
        DataError: the table lacks a column.
    """
    schema = pq.read_schema(url)
    if missing := sorted(set(COLUMNS) - set(schema.names)):
        raise DataError(f"{url!r} lacks the columns {missing}; expected the official-portraits table with {COLUMNS}")
    rows = pq.read_table(url, columns=COLUMNS, filters=[("split", "=", split)]).to_pydict()
    by_hand = dict(zip(rows["id"], rows["glasses_hand"], strict=True))
    predicted = dict(zip(rows["id"], rows["p_glasses"], strict=True))
    dataset = open_dataset(url, where={"split": split})
    loaded = dataset.load(dataset.ids, size)
    hand = np.array([by_hand[i] for i in loaded.ids])
    labels = np.where(hand >= 0, hand, np.array([predicted[i] for i in loaded.ids]))
    return loaded.images, labels.astype(np.float64), hand >= 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the official-portraits table (Parquet)")
    parser.add_argument("--size", type=int, default=64, help="pixels a side at which portraits are looked at")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    net, faces = SqueezeNet(), FaceJudge()

    def look(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        found = faces.look(images)
        return eye_features(net, images[torch.from_numpy(found.found)], found.landmarks[found.found]), found.found

    images, labels, _ = read_labels(args.data, "train", args.size)
    sure = np.abs(labels - 0.5) > SURE
    images, labels = images[torch.from_numpy(sure)], labels[sure] > 0.5
    shown = [look(variant) for variant in (images, images.flip(3), blurred(images))]
    coefficients, bias = fit_probe(
        np.concatenate([features for features, _ in shown]), np.concatenate([labels[seen] for _, seen in shown])
    )
    coefficients = coefficients.astype(np.float32).astype(np.float64)
    test, test_labels, hand = read_labels(args.data, "test", args.size)
    features, seen = look(test)
    scores = features @ coefficients + bias
    slope, offset = calibrate_probe(scores, test_labels[seen] > 0.5)
    soft, soft_seen = look(blurred(test))
    calibrated, by_hand = scores * slope + offset, hand[seen]
    measured = {
        "test": measure_probe(calibrated, test_labels[seen]),
        "test, blurred": measure_probe((soft @ coefficients + bias) * slope + offset, test_labels[soft_seen]),
        "test, labelled by hand": measure_probe(calibrated[by_hand], test_labels[seen][by_hand]),
    }
    write_probe(args.out, coefficients, bias, slope, offset, net.judge.sha256, measured)
    print(json.dumps(measured, indent=1))


def write_probe(
    folder: Path,
    coefficients: np.ndarray,
    bias: float,
    slope: float,
    offset: float,
    features_sha256: str,
    measured: dict[str, Any],
    version: int = 1,
) -> None:
    """Write ``probe.safetensors`` and ``probe.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({"coefficients": coefficients.astype(np.float32)})
    (folder / "probe.safetensors").write_bytes(data)
    card = {
        "version": version,
        "sha256": hashlib.sha256(data).hexdigest(),
        "features_sha256": features_sha256,
        "bias": bias,
        "slope": slope,
        "offset": offset,
        "measured": measured,
        "data": "official-portraits, train split at 64x64; UK images: Chris McAndrew / UK Parliament, CC BY 3.0; US images: "
        "US Government Publishing Office, public domain",
    }
    (folder / "probe.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
