"""Training the attribute network of a labeller on a table of labelled portraits.

``python -m ganinv.training.attributes --data portraits.parquet --out labeller/`` takes ten to thirty minutes on one
core.

The labeller will be shown images that a generator made: blurred, noisy, off in colour, slightly misplaced. So it is
trained on images that are all of that, and its card states its quality on clean and on degraded portraits.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import DataError
from ganinv.labels.attributes import AttributeNet
from ganinv.labels.base import Attribute
from ganinv.labels.files import LabellerCard, half_weights, write_labeller

ATTRIBUTES = ("glasses", "gender", "smile", "age", "yaw")
BINARY = 3
"""The first three attributes are logits, the rest standardised values."""
YAW = ATTRIBUTES.index("yaw")
POSITIVE_MEANS = (
    "wears glasses",
    "male, as recorded or predicted in the training data",
    "smiles",
    "looks older",
    "face turned towards the right edge of the image",
)
PORTRAITS = (
    "official-portraits, train split, 64x64. UK images: Chris McAndrew / UK Parliament, CC BY 3.0. "
    "US images: US Government Publishing Office, public domain."
)
COLUMNS = [
    "jpeg128",
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


class AttributeTrainingConfig(StrictModel):
    """One training run."""

    name: str = "portraits-64"
    version: int = 1
    size: int = 64
    channels: tuple[int, ...] = (24, 48, 96, 128)
    epochs: int = 60
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    """Decay per step of the averaged weights, which are the ones shipped."""
    soft: float = 0.03
    """Labels of the logits are kept this far from 0 and 1, so that scores keep ranking images far from the boundary."""
    seed: int = 0


@dataclass(frozen=True)
class LabelledImages:
    """Images [N, 3, R, R] in [-1, 1] and labels [N, 5]: three probabilities, then age in years and yaw."""

    images: Tensor
    labels: Tensor


def train_attributes(
    train: LabelledImages,
    test: LabelledImages,
    config: AttributeTrainingConfig | None = None,
    log: Callable[[str], None] = print,
) -> tuple[AttributeNet, LabellerCard]:
    """Train on one split, measure on the other.

    Returns:
        (network with averaged weights rounded to half precision, its card).
    """
    config = config or AttributeTrainingConfig()
    mean, std = train.labels[:, BINARY:].mean(0), train.labels[:, BINARY:].std(0)
    # Yaw is not centred: mirroring an image must negate its score.
    mean[YAW - BINARY] = 0.0
    targets = train.labels.clone()
    targets[:, :BINARY] = targets[:, :BINARY].clamp(config.soft, 1 - config.soft)
    targets[:, BINARY:] = (targets[:, BINARY:] - mean) / std
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = _fit(train.images, targets, config, log)
    sha256 = half_weights(net)[1]
    net.load_state_dict({key: value.half().float() for key, value in net.state_dict().items()})
    rng = torch.Generator().manual_seed(config.seed + 1)
    measured = {
        "images": {"train": len(train.images), "test": len(test.images)},
        "clean": _measure(net, test.images, test.labels),
        "degraded": _measure(net, degrade(test.images, rng), test.labels),
    }
    attributes = {
        name: Attribute(kind="logit", positive_means=means)
        for name, means in zip(ATTRIBUTES[:BINARY], POSITIVE_MEANS[:BINARY], strict=True)
    }
    units = ("years", "nose offset / eye distance")
    for i, name in enumerate(ATTRIBUTES[BINARY:]):
        attributes[name] = Attribute(
            kind="standardised",
            positive_means=POSITIVE_MEANS[BINARY + i],
            mean=round(mean[i].item(), 6),
            std=round(std[i].item(), 6),
            unit=units[i],
        )
    card = LabellerCard(
        name=config.name,
        version=config.version,
        attributes=attributes,
        channels=config.channels,
        input_size=config.size,
        weights_sha256=sha256,
        measured=measured,
        data=PORTRAITS,
    )
    return net, card


def _fit(images: Tensor, targets: Tensor, config: AttributeTrainingConfig, log: Callable[[str], None]) -> AttributeNet:
    net = AttributeNet(targets.shape[1], config.channels)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    per_epoch = len(images) // config.batch_size
    steps = config.epochs * per_epoch
    if steps == 0:
        raise DataError(f"attribute training needs at least one batch of {config.batch_size} images, got {len(images)}")
    rng = torch.Generator().manual_seed(config.seed)
    step = 0
    for epoch in range(config.epochs):
        total = 0.0
        order = torch.randperm(len(images), generator=rng)
        for batch in order[: per_epoch * config.batch_size].split(config.batch_size):
            # One-cycle: a short warm-up, then a cosine to zero.
            rate = min((step + 1) / (0.05 * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = config.lr * rate
            shown, wanted = augment(images[batch], targets[batch], rng)
            scores = net(shown)
            loss = F.binary_cross_entropy_with_logits(scores[:, :BINARY], wanted[:, :BINARY])
            loss = loss + F.mse_loss(scores[:, BINARY:], wanted[:, BINARY:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            decay = min(config.ema, step / (step + 10))
            with torch.no_grad():
                for mine, theirs in zip(average.parameters(), net.parameters(), strict=True):
                    mine.lerp_(theirs, 1 - decay)
            total += loss.item()
        log(f"epoch {epoch + 1}/{config.epochs}: loss {total / per_epoch:.4f}")
    return average.eval()


def augment(images: Tensor, targets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror (which negates yaw), move, and degrade a batch. Targets [B, 5] are those of ``train_attributes``."""
    batch = len(images)
    mirrored = torch.rand(batch, generator=rng) < 0.5
    targets = targets.clone()
    targets[mirrored, YAW] *= -1
    angle, scale = _normal(batch, 0.1, rng), torch.exp2(_normal(batch, 0.1, rng))
    cos, sin = angle.cos() * scale, angle.sin() * scale
    flip = 1 - 2 * mirrored.float()
    x, y = _normal(batch, 0.05, rng), _normal(batch, 0.05, rng)
    theta = torch.stack([torch.stack([cos * flip, -sin, x], 1), torch.stack([sin * flip, cos, y], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return degrade(moved, rng), targets


def degrade(images: Tensor, rng: torch.Generator) -> Tensor:
    """Colour, sharpness and noise as a young generator may have them. Each image gets its own mix; some stay clean."""
    batch = len(images)
    grey = images.mean(1, keepdim=True)
    out = grey + (images - grey) * torch.exp2(_normal(batch, 0.5, rng)).view(-1, 1, 1, 1)
    gain = torch.exp2(torch.randn(batch, 3, 1, 1, generator=rng) * 0.08 + _normal(batch, 0.3, rng).view(-1, 1, 1, 1))
    out = out * gain + _normal(batch, 0.15, rng).view(-1, 1, 1, 1)
    # A random blend with a strongly blurred copy covers blur (0..1) and over-sharpening (below 0).
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = F.pad(out, (2, 2, 2, 2), mode="reflect")
    blurred = F.conv2d(blurred.flatten(0, 1)[:, None], (kernel[:, None] * kernel)[None, None]).view_as(out)
    amount = (torch.rand(batch, 1, 1, 1, generator=rng) * 1.8 - 0.8).clamp(max=1)
    out = torch.where(amount > -0.4, out.lerp(blurred, amount), out)
    level = torch.rand(batch, 1, 1, 1, generator=rng).square() * 0.15
    return (out + torch.randn(out.shape, generator=rng) * level).clamp(-1, 1)


def _normal(batch: int, std: float, rng: torch.Generator) -> Tensor:
    return torch.randn(batch, generator=rng) * std


@torch.no_grad()
def _measure(net: AttributeNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Area under the ROC curve for logits (against labels above one half), correlation for values."""
    scores = torch.cat([net(part) for part in images.split(256)])
    measured = {}
    for i, name in enumerate(ATTRIBUTES):
        score, label = scores[:, i].double().numpy(), labels[:, i].double().numpy()
        if i < BINARY:
            measured[f"{name}_auc"] = round(area_under_curve(score, label > 0.5), 4)
        else:
            measured[f"{name}_correlation"] = round(float(np.corrcoef(score, label)[0, 1]), 4)
    return measured


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (NaN without both kinds)."""
    if positive.all() or not positive.any():
        return float("nan")
    difference = scores[positive][:, None] - scores[~positive]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def read_portraits(url: str, size: int = 64) -> tuple[LabelledImages, LabelledImages]:
    """(train, test) of the ``official-portraits`` table at any fsspec URL, images reduced by block averages.

    Recorded genders and hand-made glasses labels win over predicted probabilities.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """
    try:
        with fsspec.open(url, "rb") as file:
            parquet = pq.ParquetFile(file)
            missing = sorted(set(COLUMNS) - set(parquet.schema_arrow.names))
            rows = {} if missing else parquet.read(columns=COLUMNS).to_pydict()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read labelled portraits from {url!r}: {error}") from error
    if missing:
        raise DataError(f"{url!r} lacks the columns {missing}; expected the official-portraits table with {COLUMNS}")
    recorded = [not source.startswith("predicted") for source in rows["gender_source"]]
    male = np.where(recorded, np.array(rows["gender"]) == "M", np.array(rows["p_male"]))
    hand = np.array(rows["glasses_hand"])
    glasses = np.where(hand >= 0, hand, np.array(rows["p_glasses"]))
    labels = np.stack([glasses, male, rows["p_happy"], rows["age_pred"], rows["yaw"]], axis=1)
    pixels = np.stack([_decode(content, size) for content in rows["jpeg128"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    test = torch.tensor([split == "test" for split in rows["split"]])
    target = torch.from_numpy(labels).float()
    return LabelledImages(images[~test], target[~test]), LabelledImages(images[test], target[test])


def _decode(content: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX))


def main() -> None:
    """Train on a table and write the labeller's folder."""
    parser = argparse.ArgumentParser(description="Train the attribute network of a labeller.")
    parser.add_argument("--data", required=True, help="URL of the official-portraits table (Parquet)")
    parser.add_argument("--out", required=True, type=Path, help="folder for labeller.json and weights.safetensors")
    parser.add_argument("--epochs", type=int, default=AttributeTrainingConfig().epochs)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = AttributeTrainingConfig(epochs=args.epochs, seed=args.seed)
    train, test = read_portraits(args.data, config.size)
    net, card = train_attributes(train, test, config)
    write_labeller(args.out, card, half_weights(net)[0])
    print(json.dumps(card.measured, indent=2))


if __name__ == "__main__":
    main()
