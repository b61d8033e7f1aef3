"""The feature editor of StyleFeatureEditor (Bobkov et al. 2024, sections 4.1 and 4.3): inverted features follow an edit, told by
what the same edit does to the generator's own features. It learns from edits that the generator makes itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code, Feature
from ganinv.codes.parts import Masked, masked
from ganinv.generators.sites import site_number
from ganinv.generators.stylegan2 import Generator
from ganinv.generators.synthesis import SynthesisState
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.feature_site import FeatureSiteConfig, FeatureSiteInverter, continued
from ganinv.methods.learning import new_inverter
from ganinv.networks.feature_units import PublishedFuser, SmallFuser
from ganinv.training.batches import Batch
from ganinv.training.edit_steps import EditSteps, EditStepsConfig
from ganinv.training.learner import Learner
from ganinv.training.step import Step


class SfeEditorConfig(FeatureSiteConfig):
    """The shape of the editor, and how it takes part."""

    kind: Literal["sfe-editor"] = "sfe-editor"
    network: Literal["small", "published"] = "small"
    """``small`` corrects the rule without parameters, F' = F + G(w') - G(w), and by nothing if nothing is edited.
    ``published`` gives the features themselves."""
    always: bool = False
    """Images that are not edited go through it as well, with a difference of zero, as in the released pipeline. Without, they
    have the inverter's features, which are slightly closer (table 3 of the paper: "w/o Feature Editor")."""


class SfeEditor(FeatureSiteInverter):
    """``editor(images [B, 3, R, R] in [-1, 1]) -> Code``: the code of ``needed["inverter"]``, whose edits go through H.

    ``needed["encoder"]`` (e4e) gives a latent that is easy to edit, w_E. An edit is looked at there: Delta = G(w_E) - G(w_E')
    at the site, and H(F, Delta) are the features of the edited image. So an edit needs the photo.
    """

    Config = SfeEditorConfig
    needs = ("inverter", "encoder")
    edits_need_images = True
    cfg: SfeEditorConfig

    def build(self) -> None:
        cfg = self.cfg
        if cfg.network == "small":
            self.network: nn.Module = SmallFuser(2 * cfg.channels, cfg.channels, cfg.width, cfg.units)
        else:
            self.network = PublishedFuser(2 * cfg.channels, cfg.channels, cfg.units)
        super().build()

    def edited(self, features: Tensor, delta: Tensor) -> Tensor:
        """H: features [B, C, r, r] of an image, or [1, C, r, r] of one with several edits, and what an edit takes from the
        generator's own, G(w_E) - G(w_E'), to those of the edited image."""
        features = features.expand_as(delta)
        if self.cfg.network == "published":
            return self.network(torch.cat([features, delta], dim=1))
        mean, std = self.feature_units
        seen, moved = (features - mean) / std, delta / std
        both = torch.cat([torch.cat([seen, moved], dim=1), torch.cat([seen, torch.zeros_like(moved)], dim=1)])
        with_edit, without = self.network(both).chunk(2)
        return features - delta + std * (with_edit - without)

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        code = self.need("inverter")(images, code)
        if self.cfg.always:
            held = self.held(code)
            code = self.with_features(code, replace(held, value=self.edited(held.value, torch.zeros_like(held.value))))
        yield code

    @torch.no_grad()
    def after_edit(self, images: Tensor | None, code: Code, edited: Code) -> Code:
        """The edit's features. What a refinement moved since the inversion stays on top of them where images that are not
        edited go through H too."""
        if images is None:
            raise ValueError("an edit is looked at in the encoder's latent of the photo: give images")
        helper = self.need("encoder")(images)
        delta = self.delta(
            Code(w=helper.w, styles=code.styles), Code(w=helper.w + edited.w - code.w, styles=edited.styles)
        )
        held = self.held(code)
        if self.cfg.always:
            first = self.held(self.need("inverter")(images)).value
            since = held.value - self.edited(first, torch.zeros_like(first))
            moved = self.edited(first, delta) + since
        else:
            moved = self.edited(held.value, delta)
        return self.with_features(edited, replace(held, value=moved))

    def held(self, code: Code) -> Masked:
        """The features that a code puts at the site; the generator's own where it puts none."""
        feature = (code.features or {}).get(self.cfg.site)
        if feature is not None and feature.replace is not None:
            return masked(feature.replace)
        return Masked(self._own(code).x)

    def with_features(self, code: Code, features: Masked) -> Code:
        """The code with other features at the site."""
        there = code.features or {}
        value = features.value if features.mask is None else features
        feature = replace(there.get(self.cfg.site, Feature()), replace=value)
        return replace(code, features={**there, self.cfg.site: feature})

    def delta(self, before: Code, after: Code) -> Tensor:
        """What an edit takes from the generator's own features: those before it minus those after it."""
        return self._own(before).x - self._own(after).x

    def _own(self, code: Code) -> SynthesisState:
        return self.generator.synthesize(replace(code, features=None), stop=site_number(self.cfg.site))


class SfeEditorRecipe(AdversarialRecipe):
    """Phase 2 (section 4.3): the inverter and the encoder stay as they are. X_E = G(w_E) and X_E' = G(w_E + d) are a pair whose
    edit is known; the inverter sees X_E, and its features, edited, are to give X_E'."""

    kind: Literal["sfe-editor"] = "sfe-editor"
    needed: Mapping[str, str] = Field(default_factory=lambda: {"inverter": "sfe", "encoder": "e4e"})
    edits: EditStepsConfig = EditStepsConfig()
    inversion: float = Field(1.0, ge=0)
    """Weight of reconstructing real images through the editor, where those that are not edited go through it (``always``). Then
    the discriminator sees these, else the edits."""
    back_and_forth: float = Field(0.0, ge=0)
    """Weight of editing real images, encoding the rendering, and taking the edit back: to be the image again (StyleRes, Pehlivan
    et al. 2023, section 3.3). It shows the editor features of real images."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        editor = new_inverter(SfeEditor, self, generator, needed, start)
        if start is None:
            editor.measure_units()
        return SfeEditorLearner(self, editor)


class SfeEditorLearner(AdversarialLearner[SfeEditor, SfeEditorRecipe]):
    """One step of phase 2."""

    def __init__(self, recipe: SfeEditorRecipe, editor: SfeEditor) -> None:
        super().__init__(recipe, editor)
        self.steps = EditSteps(recipe.edits, self.generator)
        self.inverter, self.encoder = editor.need("inverter"), editor.need("encoder")
        for frozen in (self.inverter, self.encoder):  # in training mode their statistics of batches would drift
            frozen.eval().requires_grad_(False)

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe = self.recipe
        target, shown, code = self._pair(batch.images, step.stream("edits"))
        inversions = self.network.cfg.always and recipe.inversion > 0
        adversarial = {} if inversions else self.adversary.terms(shown, batch, step)
        yield {**self.losses(shown, Batch(target, target), code), **adversarial}
        real = batch.images[: len(batch.ids)] if batch.ids else batch.images
        if inversions:
            code = self.network(real)
            shown = self.generator.synthesize(code)
            terms = self.losses(shown, Batch(real, real), code)
            weighted = {
                f"inversion_{name}": (recipe.inversion * weight, value) for name, (weight, value) in terms.items()
            }
            yield {**weighted, **self.adversary.terms(shown, batch, step)}
        if recipe.back_and_forth:
            again, code = self._back_and_forth(real, step.stream("back and forth"))
            terms = self.losses(again, Batch(real, real), code)
            yield {f"back_{name}": (recipe.back_and_forth * weight, value) for name, (weight, value) in terms.items()}

    def _pair(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Code]:
        """An edit that the generator made, the same edit of its inversion, and that one's latent."""
        generator = self.generator
        with torch.no_grad():
            helper = self.encoder(images)
            moved = helper.with_w(helper.w + self.steps.draw(helper.w, rng))
            source, target = generator.synthesize(helper), generator.synthesize(moved)
        shown, code = self._edited(source, helper, moved)
        return target, shown, code

    def _edited(self, images: Tensor, helper: Code, moved: Code) -> tuple[Tensor, Code]:
        """Images inverted and edited as ``helper`` becomes ``moved``: renderings, and their latents."""
        network = self.network
        with torch.no_grad():
            delta = network.delta(helper, moved)
        code = self.inverter(images)
        features = network.edited(network.held(code).value, delta)
        after = Code(w=code.w + moved.w - helper.w)
        own = self.generator.synthesize(after, stop=site_number(network.cfg.site))
        return continued(self.generator, after, own, features), after

    def _back_and_forth(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Code]:
        with torch.no_grad():
            helper = self.encoder(images)
            step = self.steps.draw(helper.w, rng)
        shown, _ = self._edited(images, helper, helper.with_w(helper.w + step))
        again = self.encoder(shown)
        return self._edited(shown, again, again.with_w(again.w - step))

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Edits that the generator made of the images, and the same edits of their inversions."""
        target, shown, _ = self._pair(images, torch.Generator().manual_seed(self.recipe.seed))
        return target.clamp(-1, 1), shown.clamp(-1, 1)
