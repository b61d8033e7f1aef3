"""Training the attribute network of a labeller on a table of labelled portraits.

The labeller will be shown images that a generator made: blurred, noisy, off in colour, slightly misplaced. So it is
trained on images that are all of that, and its model card states its quality on clean and on degraded portraits. Directions will
be fitted on its scores, and do whatever raises them: so glasses are read off the eyes alone, a veil of white is not age, and half
of the images are moved against the network (``AttributeRecipe.adversarial``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.attributes import AttributeNet
from ganinv.labels.base import Attribute
from ganinv.labels.inputs import resize_images
from ganinv.labels.opening import CARD, WEIGHTS, LabellerCard, half_weights, open_trained
from ganinv.losses.terms import Terms
from ganinv.optim.configs import AdamConfig, AnyOptimizer
from ganinv.training.attribute_images import augment, degrade, veiled
from ganinv.training.attribute_table import (
    ATTRIBUTES,
    BINARY,
    YAW,
    LabelledImages,
    Portraits,
    calibrate,
    measure,
    read_portraits,
)
from ganinv.training.batches import Batch, DataConfig, Images
from ganinv.training.learner import Learner, Look, Player
from ganinv.training.product import Given, Places, Product
from ganinv.training.recipe import Recipe, Validation
from ganinv.training.step import Step

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
UNITS = ("years", "nose offset / eye distance")


class AttributeRecipe(Recipe):
    """Training on a data set of portraits, whose labels a table has; its test split judges."""

    makes: ClassVar[str] = "labellers"
    holds_out: ClassVar[bool] = False

    kind: Literal["attributes"] = "attributes"
    labels: str = ""
    """URL of the ``official-portraits`` table (Parquet): labels by id, and the test split."""
    version: int = 2
    size: int = Field(64, ge=8)
    """Height and width of the images."""
    channels: tuple[int, ...] = (24, 48, 96, 128)
    steps: int = Field(1800, ge=1)
    batch_size: int = Field(64, ge=1)
    optimizer: AnyOptimizer = AdamConfig(lr=2e-3, weight_decay=0.05)
    data: DataConfig = DataConfig(real_share=1.0, flip=False, jitter=False)
    """Portraits come as they are: mirroring changes a label, so that is done here."""
    ema: float | None = Field(138.0, gt=0)
    ema_rampup: float = Field(0.07, gt=0)
    validation: Validation = Validation(every=300, images=8)
    soft: float = Field(0.03, ge=0, lt=0.5)
    """Labels of the logits are kept this far from 0 and 1, so that scores keep ranking images far from the boundary."""
    eye_channels: tuple[int, ...] | None = (24, 48, 96)
    """A network of its own looks at the eyes for glasses; None leaves them to the trunk."""
    veil: float = Field(0.3, ge=0, le=1)
    """Share of images behind a smooth white or dark veil, whose labels stay: haze is not age."""
    adversarial: float = Field(1.0, ge=0)
    """Half of each batch is moved this far (L2, pixels in [-1, 1]) to where the loss grows fastest (Goodfellow et al. 2015):
    a score must not hang on what nobody can see, or directions will paint that. 0 leaves it out."""
    generators: tuple[str, ...] = ()
    """Whose samples join, with the labels that ``start`` gives them, where it is sure (Lee 2013)."""
    samples: int = Field(1000, ge=1)
    """Of each generator."""
    generated_share: float = Field(0.33, ge=0, lt=1)
    """Share of them in a batch."""
    confident: float = Field(0.9, ge=0.5, lt=1)
    """Probability from which on ``start`` is sure."""

    def learner(self, given: Given) -> Learner:
        if not self.labels:
            raise ConfigError("attributes are learned from labels: give their table with --set labels=URL")
        return AttributeLearner(self, given, read_portraits(self.labels, self.size))

    def resolution(self, given: Given) -> int:
        return self.size

    def rate(self, step: int, total: int) -> float:
        """One cycle: a short warm-up, then a cosine to zero."""
        return min((step + 1) / (0.05 * total), 0.5 + 0.5 * math.cos(math.pi * step / total))


class AttributeLearner(Learner):
    """One batch of portraits, degraded, half of them moved against the network.

    Args:
        given: with ``start``, a network whose fitting parts this one begins with, and which labels samples of generators.
    """

    network: AttributeNet

    def __init__(self, recipe: AttributeRecipe, given: Given, portraits: Portraits) -> None:
        if recipe.generators and given.start is None:
            raise ConfigError("samples of generators get their labels from a network: give one with --start")
        self.recipe, self.device, self.portraits = recipe, given.device, portraits
        self.network = AttributeNet(len(ATTRIBUTES), recipe.channels, eye_channels=recipe.eye_channels).to(self.device)
        self.teacher = given.start
        if self.teacher is not None:
            self.network.load_state_dict(self.teacher.state_dict(), strict=False)
        known = portraits.stacked[:, BINARY:]
        self.mean, self.std = known.mean(0), known.std(0)
        self.mean[YAW - BINARY] = 0.0  # not centred: mirroring an image must negate its score
        self.generated = Generated()
        self.players: Mapping[str, Player] = {"generated": self.generated}

    def begin(self, images: Images | None) -> None:
        """Label samples of the generators."""
        if images is None:
            raise ConfigError("attributes are learned from portraits: give their data set with --dataset")
        if not self.recipe.generators:
            return
        assert self.teacher is not None
        made = [_samples(open_generator(uri), self.recipe.samples, self.recipe.size) for uri in self.recipe.generators]
        self.generated.fill(*_guess(self.teacher, torch.cat(made).to(self.device), self.recipe))

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, rng = self.recipe, step.stream("portraits")
        images, targets = batch.images.cpu(), self._targets(batch.ids)
        if len(self.generated):
            count = round(len(images) * recipe.generated_share)
            some, guessed = self.generated.draw(count, rng)
            images, targets = torch.cat([images[count:], some]), torch.cat([targets[count:], guessed])
        shown, wanted = augment(images, targets, rng)
        shown, wanted = veiled(shown, recipe.veil, rng).to(self.device), wanted.to(self.device)
        if recipe.adversarial:
            half = len(shown) // 2
            shown[:half] = moved_against(self.network, shown[:half], wanted[:half], recipe.adversarial)
        logits, values = _losses(self.network(shown), wanted)
        yield {"logits": (1.0, logits), "values": (1.0, values)}

    def _targets(self, ids: tuple[str, ...]) -> Tensor:
        """Targets [B, 5] of images: softened probabilities, standardised values."""
        for name in ids:
            if name not in self.portraits.train:
                raise DataError(
                    f"image {name!r} of the data set has no labels in {self.recipe.labels!r}, or is of its test split: train on "
                    "rows of that table, with --where split=train"
                )
        labels = torch.stack([self.portraits.train[name] for name in ids])
        soft = self.recipe.soft
        return torch.cat([labels[:, :BINARY].clamp(soft, 1 - soft), (labels[:, BINARY:] - self.mean) / self.std], dim=1)

    @cached_property
    def test(self) -> LabelledImages:
        return LabelledImages(self.portraits.test.images.to(self.device), self.portraits.test.labels)

    def look(self, seen: Tensor, target: Tensor) -> Look:
        """How far scores of the test split are from perfect: areas and correlations, mean over what differs in it."""
        found = measure(self.network, self.test.images, self.test.labels)
        quality = [value for name, value in found.items() if not name.endswith("_accuracy") and not math.isnan(value)]
        return Look(
            1 - sum(quality) / max(1, len(quality)), (self.test.images,), measure="one minus area or correlation"
        )

    def card(self, name: str) -> tuple[LabellerCard, bytes]:
        """The calibrated network as it is now, rounded to half precision: its model card and its weights."""
        net = AttributeNet(len(ATTRIBUTES), self.recipe.channels, eye_channels=self.recipe.eye_channels)
        net.load_state_dict(self.network.state_dict())
        test = self.portraits.test
        calibrate(net.eval(), test)
        weights, sha256 = half_weights(net)
        net.load_state_dict({key: value.half().float() for key, value in net.state_dict().items()})
        rng = torch.Generator().manual_seed(self.recipe.seed + 1)
        measured = {
            "images": {"train": len(self.portraits.train), "test": len(test.images)},
            "clean": measure(net, test.images, test.labels),
            "degraded": measure(net, degrade(test.images, rng), test.labels),
        }
        kinds = {
            attribute: Attribute(kind="logit", positive_means=means)
            for attribute, means in zip(ATTRIBUTES[:BINARY], POSITIVE_MEANS[:BINARY], strict=True)
        }
        for i, attribute in enumerate(ATTRIBUTES[BINARY:]):
            kinds[attribute] = Attribute(
                kind="standardised",
                positive_means=POSITIVE_MEANS[BINARY + i],
                mean=round(self.mean[i].item(), 6),
                std=round(self.std[i].item(), 6),
                unit=UNITS[i],
            )
        card = LabellerCard(
            name=name,
            version=self.recipe.version,
            attributes=kinds,
            channels=self.recipe.channels,
            eye_channels=self.recipe.eye_channels,
            input_size=self.recipe.size,
            weights_sha256=sha256,
            measured=measured,
            data=PORTRAITS,
        )
        return card, weights


class Generated:
    """Samples of generators with labels, as they were when the training began."""

    def __init__(self) -> None:
        self.images, self.targets = torch.empty(0, dtype=torch.uint8), torch.empty(0)

    def __len__(self) -> int:
        return len(self.images)

    def fill(self, images: Tensor, targets: Tensor) -> None:
        """Images [M, 3, R, R] in [-1, 1] and their targets [M, 5]."""
        self.images, self.targets = ((images + 1) * 127.5).round().to(torch.uint8).cpu(), targets.cpu()

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.images), (count,), generator=rng)
        return self.images[chosen].float() / 127.5 - 1, self.targets[chosen]

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "targets": self.targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images, self.targets = state["images"].cpu(), state["targets"].cpu()


class Labellers(Product):
    """Labellers of this project's own network."""

    noun = "labeller"

    def open(self, places: Places, device: str) -> Given:
        if places.needed or places.generator != EMBEDDED:
            raise ConfigError(
                "a labeller belongs to no generator and starts from no inverter: leave --generator and --needed out; samples of "
                "generators join with --set generators=[...]"
            )
        if places.start is None:
            return Given(torch.device(device))
        start = open_trained(places.start).to(device)
        return Given(torch.device(device), start=start.net, fingerprints={"start": start.weights_sha256})

    def pack(self, learner: Learner, given: Given, name: str, record: Mapping[str, Any]) -> dict[str, bytes]:
        assert isinstance(learner, AttributeLearner)
        card, weights = learner.card(name)
        return {WEIGHTS: weights, CARD: (json.dumps(card.model_dump(mode="json"), indent=2) + "\n").encode()}


def _losses(scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.binary_cross_entropy_with_logits(scores[:, :BINARY], wanted[:, :BINARY])
    return logits, F.mse_loss(scores[:, BINARY:], wanted[:, BINARY:])


def moved_against(net: AttributeNet, images: Tensor, targets: Tensor, radius: float) -> Tensor:
    """Images [B, 3, R, R], each moved by ``radius`` (L2) along the gradient of its loss."""
    images = images.detach().clone().requires_grad_(True)
    logits, values = _losses(net(images), targets)
    (gradient,) = torch.autograd.grad(logits + values, images)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (images.detach() + radius * gradient / length).clamp(-1, 1)


@torch.no_grad()
def _guess(net: nn.Module, images: Tensor, config: AttributeRecipe) -> tuple[Tensor, Tensor]:
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
def _samples(generator: Generator, count: int, size: int) -> Tensor:
    w = generator.map(sample_z(SAMPLES_SEED, range(count), generator.z_dim))
    return resize_images(generator.render(Code(w=w)).clamp(-1, 1), size)
