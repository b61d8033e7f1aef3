"""Training the attribute network of a labeller on a table of labelled portraits.

``python -m ganinv.training.attributes --data portraits.parquet --out labeller/`` takes ten to thirty minutes on one
core.

The labeller will be shown images that a generator made: blurred, noisy, off in colour, slightly misplaced. So it is
trained on images that are all of that, and its model card states its quality on clean and on degraded portraits. Directions will
be fitted on its scores, and do whatever raises them: so glasses are read off the eyes alone, a veil of white is not age, and half
of the images are moved against the network (``AttributeTrainingConfig.adversarial``).
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
from typing import cast

import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import DataError
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.attributes import AttributeNet
from ganinv.labels.base import Attribute
from ganinv.labels.inputs import resize_images
from ganinv.labels.opening import LabellerCard, half_weights, open_trained, write_labeller

ATTRIBUTES = ("glasses", "gender", "smile", "age", "yaw")
BINARY = 3
"""The first three attributes are logits, the rest standardised values."""
YAW = ATTRIBUTES.index("yaw")
SAMPLES_SEED = 40_000  # of generated images that join: not those that anything is measured on
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
    version: int = 2
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
    eye_channels: tuple[int, ...] | None = (24, 48, 96)
    """A network of its own looks at the eyes for glasses; None leaves them to the trunk."""
    veil: float = 0.3
    """Share of images behind a smooth white or dark veil, whose labels stay: haze is not age."""
    adversarial: float = 1.0
    """Half of each batch is moved this far (L2, pixels in [-1, 1]) to where the loss grows fastest (Goodfellow et al. 2015):
    a score must not hang on what nobody can see, or directions will paint that. 0 leaves it out."""
    confident: float = 0.9
    """Generated images join with the label that a first network gives them, where it is this sure (Lee 2013)."""
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
    *,
    generated: Tensor | None = None,
    start: AttributeNet | None = None,
) -> tuple[AttributeNet, LabellerCard]:
    """Train on one split; calibrate and measure on the other.

    Args:
        generated: images [M, 3, R, R] in [-1, 1] of generators whose samples are to be labelled. They join for a second
            training, with labels that the first network is sure of.
        start: a trained network; what fits of it is where the training begins.

    Returns:
        (network with averaged weights rounded to half precision, its model card).
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
        net = _fit(train.images, targets, config, log, start)
        if generated is not None:
            sure, guessed = _guess(net, generated, config)
            log(f"{len(sure)} of {len(generated)} generated images have a label that is sure")
            net = _fit(torch.cat([train.images, sure]), torch.cat([targets, guessed]), config, log, net)
    _calibrate(net, test)
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
        eye_channels=config.eye_channels,
        input_size=config.size,
        weights_sha256=sha256,
        measured=measured,
        data=PORTRAITS,
    )
    return net, card


def _fit(
    images: Tensor,
    targets: Tensor,
    config: AttributeTrainingConfig,
    log: Callable[[str], None],
    start: AttributeNet | None,
) -> AttributeNet:
    net = AttributeNet(targets.shape[1], config.channels, eye_channels=config.eye_channels)
    if start is not None:
        net.load_state_dict(start.state_dict(), strict=False)
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
            shown = veiled(shown, config.veil, rng)
            if config.adversarial:
                half = len(shown) // 2
                shown[:half] = moved_against(net, shown[:half], wanted[:half], config.adversarial)
            loss = _loss(net(shown), wanted)
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


def _loss(scores: Tensor, wanted: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(scores[:, :BINARY], wanted[:, :BINARY])
    return loss + F.mse_loss(scores[:, BINARY:], wanted[:, BINARY:])


def moved_against(net: AttributeNet, images: Tensor, targets: Tensor, radius: float) -> Tensor:
    """Images [B, 3, R, R], each moved by ``radius`` (L2) along the gradient of its loss."""
    images = images.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(_loss(net(images), targets), images)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (images.detach() + radius * gradient / length).clamp(-1, 1)


def veiled(images: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Images [B, 3, R, R], some of them behind a veil of white, grey or black that is thicker here than there."""
    batch, size = len(images), images.shape[-1]
    thickness = torch.rand(batch, 1, 4, 4, generator=rng) * torch.rand(batch, 1, 1, 1, generator=rng) * 0.7
    thickness = F.interpolate(thickness, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    shade = torch.rand(batch, 1, 1, 1, generator=rng) * 2 - 1
    chosen = torch.rand(batch, 1, 1, 1, generator=rng) < share
    return torch.where(chosen, torch.lerp(images, shade.expand_as(images), thickness), images)


@torch.no_grad()
def _guess(net: AttributeNet, images: Tensor, config: AttributeTrainingConfig) -> tuple[Tensor, Tensor]:
    """(images, targets) of those of whose glasses, gender or smile the network is sure, seen as they are and mirrored. What it
    is not sure of keeps its guess as it is."""
    guesses = []
    for part in images.split(256):
        here, there = net(part), net(part.flip(3))
        there[:, YAW] *= -1
        guesses.append((here + there) / 2)
    scores = torch.cat(guesses)
    chance = scores[:, :BINARY].sigmoid()
    sure = torch.maximum(chance, 1 - chance) > config.confident
    scores[:, :BINARY] = torch.where(sure, chance.round(), chance).clamp(config.soft, 1 - config.soft)
    some = sure.any(1)
    return images[some], scores[some]


@torch.no_grad()
def _calibrate(net: AttributeNet, test: LabelledImages) -> None:
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
            measured[f"{name}_accuracy"] = round(float(((score > 0) == (label > 0.5)).mean()), 4)
        else:
            measured[f"{name}_correlation"] = round(float(np.corrcoef(score, label)[0, 1]), 4)
    return measured


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (NaN without both kinds)."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


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


def _samples(generator: Generator, count: int, size: int) -> Tensor:
    w = generator.map(sample_z(SAMPLES_SEED, range(count), generator.z_dim))
    return resize_images(generator.render(Code(w=w)).clamp(-1, 1), size)


def main() -> None:
    """Train on a table and write the labeller's folder."""
    parser = argparse.ArgumentParser(description="Train the attribute network of a labeller.")
    parser.add_argument("--data", required=True, help="URL of the official-portraits table (Parquet)")
    parser.add_argument("--out", required=True, type=Path, help="folder for labeller.json and weights.safetensors")
    parser.add_argument("--epochs", type=int, default=AttributeTrainingConfig().epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adversarial", type=float, default=AttributeTrainingConfig().adversarial)
    parser.add_argument("--start", help="labeller to go on from: its name or folder")
    parser.add_argument("--generator", action="append", default=[], help="whose samples join; may be repeated")
    parser.add_argument("--samples", type=int, default=1000, help="of each generator")
    args = parser.parse_args()
    config = AttributeTrainingConfig(epochs=args.epochs, seed=args.seed, adversarial=args.adversarial)
    train, test = read_portraits(args.data, config.size)
    start = open_trained(args.start).net if args.start else None
    made = [_samples(open_generator(uri), args.samples, config.size) for uri in args.generator]
    generated = torch.cat(made) if made else None
    net, card = train_attributes(train, test, config, generated=generated, start=cast(AttributeNet | None, start))
    write_labeller(args.out, card, half_weights(net)[0])
    print(json.dumps(card.measured, indent=2))


if __name__ == "__main__":
    main()
