"""Style Transformer's reference-based editor (Hu et al. 2022, section 3.3): the tokens of a code look at those of another image's
code, and take over what makes one attribute there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.labels.base import Attribute
from ganinv.losses.terms import Terms
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.learning import InverterRecipe, new_inverter
from ganinv.networks.latent_classifier import LatentClassifier
from ganinv.networks.transformer import DecoderLayer
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner, PictureLearner, Player
from ganinv.training.step import Step


class ReferenceEditorConfig(InverterConfig):
    """The shape of a reference-based editor."""

    kind: Literal["reference-editor"] = "reference-editor"
    num_ws: int = Field(ge=1)
    w_dim: int
    attributes: tuple[str, ...] = ()
    """What it takes from a reference. None are named in published files, each of which is for a single one."""
    classes: tuple[str, ...] = ()
    """Attributes of its classifier of latents, which it learned from and does not edit with; none: it has no classifier."""
    tokens: int = Field(ge=1)
    """Rows that the classifier reads: 18 in published files."""
    heads: int = Field(4, ge=1)
    hidden: int = Field(1024, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    classifier_hidden: tuple[int, int] = (2048, 512)
    embedding: int = Field(32, ge=1)
    """Width of the classifier's embedding of each attribute."""
    output_layer: bool = True
    """Latents are read in units of their spread, and a linear layer writes them from the source beside what it became; published
    files have neither."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        return super().for_generator(generator, {"tokens": generator.num_ws, **given})


class ReferenceEditor(Inverter):
    """``editor.edit_by_reference(code, reference) -> Code``. It makes no codes of images itself, but edits those of its encoder.

    As an inverter it gives each image its own code as the reference: what the edit keeps.
    """

    Config = ReferenceEditorConfig
    needs = ("encoder",)
    edits_by_reference = True
    cfg: ReferenceEditorConfig
    latent_avg: Tensor
    spread: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.layer = DecoderLayer(cfg.w_dim, cfg.heads, cfg.hidden, cfg.dropout)
        self.classifier = (
            LatentClassifier(cfg.tokens, cfg.w_dim, cfg.classes, cfg.classifier_hidden, cfg.embedding)
            if cfg.classes
            else None
        )
        if cfg.output_layer:
            self.marks = nn.Parameter(torch.randn(max(1, len(cfg.attributes)), cfg.w_dim))
            self.output = nn.Linear(2 * cfg.w_dim, cfg.w_dim)
            nn.init.zeros_(self.output.weight)  # training starts from the mean latent
            nn.init.zeros_(self.output.bias)
            self.register_buffer("latent_avg", torch.zeros(cfg.w_dim))
            self.register_buffer("spread", torch.ones(()))

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        code = self.need("encoder")(images) if code is None else code
        yield code.with_w(self.mix(code.w, code.w, 0))

    def mix(self, source: Tensor, reference: Tensor, attribute: int = 0) -> Tensor:
        """Latents [B, num_ws, w_dim] with an attribute, by its place among ``attributes``, as in those of the references."""
        if not self.cfg.output_layer:
            return self.layer(source, reference)
        own, other = (self.scaled(w) for w in (source, reference))
        became = self.layer(own + self.marks[attribute], other)
        return self.latent_avg + self.spread * self.output(torch.cat([became, own], dim=2))

    def scaled(self, w: Tensor) -> Tensor:
        """Latents in units of the spread of W, about its mean."""
        return (w - self.latent_avg) / self.spread

    def scores(self, w: Tensor, *, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """The classifier's log-odds [B, K] and embeddings [B, K, E] of w; ``frozen`` gives gradients to w alone."""
        if self.classifier is None:
            raise ConfigError("this reference-editor came without its classifier of latents")
        w = self.scaled(w) if self.cfg.output_layer else w
        if not frozen:
            return self.classifier(w)
        weights = {name: tensor.detach() for name, tensor in self.classifier.named_parameters()}
        found: tuple[Tensor, Tensor] = functional_call(self.classifier, weights, (w,))
        return found

    def reference_code(self, images: Tensor) -> Code:
        return self.need("encoder")(images)

    def edit_by_reference(self, code: Code, reference: Code, attributes: Sequence[str] = ()) -> Code:
        known = self.cfg.attributes
        if unknown := [name for name in attributes if name not in known]:
            has = f"it knows {', '.join(known)}" if known else "it names none: give no attributes"
            raise ConfigError(f"this reference-editor does not take {', '.join(unknown)} from a reference: {has}")
        chosen = [known.index(name) for name in attributes] or list(range(max(1, len(known))))
        w, other = code.w, reference.w.expand(len(code), -1, -1)
        for attribute in chosen:
            w = self.mix(w, other, attribute)
        return code.with_w(w)


class ReferenceEditorRecipe(InverterRecipe):
    """Training a reference-based editor (section 3.3), on codes of its encoder.

    Three errors, each of squares: of the mixed code to the source's, of the embedding of the edited attribute to the reference's,
    and of the other embeddings to the source's. The embeddings are those of a classifier of latents, which learns first and
    goes on learning beside, from a labeller's scores of the images; the editor's errors do not move it.
    """

    kind: Literal["reference-editor"] = "reference-editor"
    keep: Literal["best", "last"] = "last"
    labeller: str = "portraits-64"
    attributes: tuple[str, ...] = Field(("smile",), min_length=1)
    """What it is to take from references; of several, one is drawn for each step."""
    source: float = Field(1.0, ge=0)
    """Weight of the squared error to the source's code, in units of W's spread."""
    reference: float = Field(1.0, ge=0)
    """Weight of that to the reference's embedding."""
    others: float = Field(1.0, ge=0)
    """Weight of that to the source's other embeddings."""
    classifier_share: float = Field(0.3, ge=0, lt=1)
    """Share of the steps before the embeddings count: until then the classifier learns, and the editor to leave codes alone."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        labeller = open_labeller(self.labeller)
        classes = [name for name, attribute in labeller.attributes.items() if attribute.kind in _PROBABILITIES]
        if unknown := [name for name in self.attributes if name not in classes]:
            raise ConfigError(
                f"attributes has {', '.join(unknown)}, which labeller {self.labeller!r} does not tell apart: it has "
                f"{', '.join(classes)}"
            )
        if labeller.needs != "images":
            raise ConfigError(f"labeller {self.labeller!r} looks scores up and cannot score samples: take another")
        shape = {"attributes": list(self.attributes), "classes": classes, **self.inverter}
        editor = new_inverter(ReferenceEditor, self.model_copy(update={"inverter": shape}), generator, needed, start)
        if start is None and editor.cfg.output_layer:
            editor.spread.copy_(generator.w_std / generator.w_dim**0.5)
        return ReferenceEditorLearner(self, editor)


class ReferenceEditorLearner(PictureLearner):
    """One step of the editor's training: the batch's codes, each with the code of another image of the batch as reference."""

    network: ReferenceEditor

    def __init__(self, recipe: ReferenceEditorRecipe, editor: ReferenceEditor) -> None:
        self.recipe, self.network, self.generator = recipe, editor, editor.generator
        self.labeller = open_labeller(recipe.labeller).to(self.generator.device)
        self.players: Mapping[str, Player] = {}

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, editor = self.recipe, self.network
        with torch.no_grad():
            w = editor.reference_code(batch.images).w
            labels = probabilities(self.labeller.attributes, self.labeller(batch.target), editor.cfg.classes)
        logits, _ = editor.scores(w)
        known = ~labels.isnan()
        terms: dict[str, tuple[float, Tensor]] = {
            "classifier": (1.0, F.binary_cross_entropy_with_logits(logits[known], labels[known]))
        }
        rng = step.stream("references")
        attribute = int(torch.randint(len(recipe.attributes), (), generator=rng))
        shift = 1 + int(torch.randint(max(1, len(w) - 1), (), generator=rng))
        reference = w.roll(shift, 0)
        mixed = editor.mix(w, reference, attribute)
        terms["source"] = (recipe.source, F.mse_loss(editor.scaled(mixed), editor.scaled(w)))
        if step.number >= recipe.classifier_share * step.total:
            own = editor.cfg.classes.index(recipe.attributes[attribute])
            others = [k for k in range(len(editor.cfg.classes)) if k != own]
            with torch.no_grad():
                (_, of_source), (_, of_reference) = editor.scores(w), editor.scores(reference)
            _, found = editor.scores(mixed, frozen=True)
            terms["reference"] = (recipe.reference, F.mse_loss(found[:, own], of_reference[:, own]))
            if others:
                terms["others"] = (recipe.others, F.mse_loss(found[:, others], of_source[:, others]))
        yield terms

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.generator.synthesize(self.network(images)).clamp(-1, 1)

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.synthesize(self.network.reference_code(images)).clamp(-1, 1), self.reconstruct(images)


_PROBABILITIES = {
    "logit": torch.sigmoid,
    "standardised": torch.sigmoid,
    "probability": lambda scores: scores.clamp(0, 1),
    "label": lambda scores: (scores > 0).float(),
}
"""Kind of score -> the probability that it stands for; scores of other kinds have no two sides."""


def probabilities(kinds: Mapping[str, Attribute], scores: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """A labeller's scores as probabilities [B, K], NaN if there is none."""
    return torch.stack([_PROBABILITIES[kinds[name].kind](scores[name].float()) for name in names], dim=1)
