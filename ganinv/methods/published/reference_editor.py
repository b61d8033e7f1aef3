"""Files of Style Transformer's reference-based editor: ``encoder.transformerlayer.*``, ``classifier.*``, ``decoder.*`` (Hu et al.
2022)."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.published.description import EncoderDescription, Tensors, described
from ganinv.methods.published.kinds import PublishedKind
from ganinv.methods.published.style_transformer import split_projections
from ganinv.methods.reference_editor import ReferenceEditor, ReferenceEditorConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new
from ganinv.networks.latent_classifier import published_names

MARK, SHARED = "transformerlayer.linear1.weight", "fcs.0.weight"


class PublishedReferenceEditor(PublishedKind):
    """Which attribute a file edits is written nowhere in it."""

    parts = ("encoder", "classifier")
    mark = MARK
    needs_mean = False

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        classifier = parts.get("classifier")
        if classifier is not None and SHARED not in classifier:
            raise WeightsRefused(
                f"{where}: classifier has no {SHARED}: expected Style Transformer's classifier of latents"
            )
        return described("reference-editor", "EditTransformer", 3, parts, opts, latent_avg, where)

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> ReferenceEditor:
        encoder, classifier = what.parts["encoder"], what.parts.get("classifier", {})
        hidden, w_dim = (int(size) for size in encoder[MARK].shape)
        shape: dict[str, Any] = {"tokens": what.n_styles}
        if classifier:
            count = len({name for name in classifier if re.match(r"output_fcs\.\d{1,3}\.weight", name)})
            shape = {
                "tokens": int(classifier[SHARED].shape[1]) // w_dim,
                "classes": published_names(count),
                "classifier_hidden": tuple(int(classifier[f"fcs.{i}.weight"].shape[0]) for i in range(2)),
                "embedding": int(classifier["indep_fcs.0.weight"].shape[0]),
            }
        cfg = ReferenceEditorConfig(num_ws=what.n_styles, w_dim=w_dim, hidden=hidden, output_layer=False, **shape)
        tensors = split_projections(encoder) | {f"classifier.{name}": t for name, t in classifier.items()}
        return adopt_new(lambda: ReferenceEditor(cfg), tensors, keymaps.REFERENCE_EDITOR, f"{where}: encoder")


REFERENCE_EDITOR = PublishedReferenceEditor()
