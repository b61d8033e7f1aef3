"""Published encoder checkpoints by their names and shapes, made here from our own networks: no recording is needed for them.

That the names and shapes are those of the published files is held by ``test_outlines.py``: by a digest of each that ships
(``tests/own_golden.json``), and by the recordings where they are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.formats import rosinality
from ganinv.generators.formats.write import _rosinality_shape
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.e2style import E2Style, E2StyleConfig
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.hyperstyle import HyperStyleConfig
from ganinv.methods.padinv import PadInv, PadInvConfig
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.published.e2style import FIRST, FURTHER, HEADS
from ganinv.methods.reference_editor import ReferenceEditor, ReferenceEditorConfig
from ganinv.methods.style_transformer import StyleTransformer, StyleTransformerConfig
from ganinv.methods.w import WEncoder, WEncoderConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Rules, published_name
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner
from ganinv.networks.hypernet import HyperNetwork
from ganinv.networks.latent_classifier import LatentClassifier, published_names

Tree = dict[str, Any]
State = dict[str, Tensor]


def outline(case: str, part: str = "", device: str = "meta") -> Tree:
    """A checkpoint with the names and shapes of a published one; its values are zero, or (meta) not there at all.

    Args:
        case: a key of ``CASES``. part: only tensors whose names begin with it.
    """
    _, opts, mean = CASES[case]
    state = {
        name: torch.zeros(t.shape, dtype=t.dtype, device=device)
        for name, t in _tensors(case).items()
        if name.startswith(part)
    }
    tree: Tree = {"state_dict": state, "opts": dict(opts)}
    if mean is not None:
        tree["latent_avg"] = torch.zeros(mean, device=device)
    return tree


@functools.cache
def _tensors(case: str) -> State:
    with torch.device("meta"):
        return CASES[case][0]()


def named(module: nn.Module, rules: Rules, prefix: str) -> State:
    """A network's tensors as the published file calls them; the mean latent is not a tensor of a network there."""
    state = {published_name(name, rules): tensor for name, tensor in module.state_dict().items()}
    return {prefix + name: t for name, t in _stacked(state).items() if name not in ("latent_avg", "w_avg")}


def _stacked(state: State) -> State:
    """Projections of attention as PyTorch keeps them: those of queries, keys and values in one tensor."""
    out: State = {}
    for name, tensor in state.items():
        if found := re.fullmatch(r"(.*attn\.)([qkv])\.(weight|bias)", name):
            key = f"{found[1]}in_proj_{found[3]}"
            out[key] = torch.cat([out[key], tensor]) if key in out else tensor
        else:
            out[name] = tensor
    return out


def generator(resolution: int) -> Generator:
    """A StyleGAN2 of the published widths."""
    widths = tuple(min(512, 32768 // 2**k) for k in range(2, resolution.bit_length()))
    return Generator(GeneratorConfig(resolution=resolution, channels=widths, z_dim=512, w_dim=512, mapping_layers=8))


def decoder(resolution: int, prefix: str = "decoder.") -> State:
    """The generator beside an encoder, as rosinality's program names its tensors."""
    g = generator(resolution)
    own = g.state_dict()
    state = {
        name: _rosinality_shape(name, own[ours])
        for ours, name in rosinality.generator_keys(g.cfg).items()
        if ours in own
    }
    for b in range(1, len(g.cfg.channels)):
        state |= {
            f"convs.{2 * b - 2}.conv.blur.kernel": torch.zeros(4, 4),
            f"to_rgbs.{b - 1}.upsample.kernel": torch.zeros(4, 4),
        }
    return {prefix + name: tensor for name, tensor in state.items()}


def _rows(cls: Any, config: Any, rules: Rules, resolution: int, **more: Any) -> Callable[[], State]:
    """An encoder with a head for each row of W+, and its decoder."""

    def make() -> State:
        shape = {"resolution": 256, "num_ws": 2 * resolution.bit_length() - 4, "w_dim": 512, **more}
        return named(cls(config(**shape)), rules, "encoder.") | decoder(resolution)

    return make


def _hypernet(resolution: int, layers: tuple[int, ...] | None = None) -> Callable[[], State]:
    """HyperStyle's network.

    Args:
        layers: numbers of the layers that it changes, in the order of use; those of the paper by default.
    """

    def make() -> State:
        g = generator(resolution)
        cfg = HyperStyleConfig.for_generator(g, {})
        shapes = cfg["layers"]
        if layers is not None:
            names = [g.style_names[k] for k in layers]
            shapes = {name: tuple(g.synthesis.get_parameter(f"{name}.weight").shape) for name in names}
        indices = {name: g.style_names.index(name) for name in shapes}
        network = HyperNetwork(shapes, shared_shape=cfg["shared_shape"])
        state = named(network, keymaps.hyper_network(indices), "hypernet.")
        head = "hypernet.shared_weight_hypernet."
        shared = {name.removeprefix(head): t for name, t in state.items() if name.startswith(head)}
        for name, shape in shapes.items():  # each block that uses the shared head lists it once more
            if shape == cfg["shared_shape"]:
                state |= {f"hypernet.refinement_blocks.{indices[name]}.hypernet.{n}": t for n, t in shared.items()}
        return state | decoder(resolution)

    return make


def _fusion(resolution: int, encoder: bool = False) -> Callable[[], State]:
    """HFGI's networks."""

    def make() -> State:
        state = named(ResidualAligner(), keymaps.RESIDUAL_ALIGNER, "grid_align.")
        state |= named(ConsultationEncoder(), keymaps.CONSULTATION, "residue.") | decoder(resolution)
        if not encoder:
            return state
        shape = {"resolution": 256, "num_ws": 2 * resolution.bit_length() - 4, "w_dim": 512, "backbone": "ir-se-50"}
        return state | named(E4e(E4eConfig(**shape)), keymaps.IR_SE_50_ROWS, "encoder.")

    return make


def _style_transformer(resolution: int) -> Callable[[], State]:
    def make() -> State:
        cfg = StyleTransformerConfig(
            resolution=256, num_ws=2 * resolution.bit_length() - 4, w_dim=512, tokens=18, z_dim=512, mapping_layers=8,
            backbone="ir-se-50", output_layer=False,
        )  # fmt: skip
        state = named(StyleTransformer(cfg), keymaps.style_transformer(8), "encoder.module.")
        state = {
            name: t for name, t in state.items() if ".decoder." not in name
        }  # the mapping network is the decoder's
        return state | decoder(resolution, "decoder.module.")

    return make


def _editor(resolution: int) -> Callable[[], State]:
    def make() -> State:
        cfg = ReferenceEditorConfig(num_ws=18, w_dim=512, tokens=18, hidden=1024, output_layer=False, classes=())
        state = named(ReferenceEditor(cfg), keymaps.REFERENCE_EDITOR, "encoder.module.")
        return state | named(_classifier(), [], "classifier.module.") | decoder(resolution, "decoder.module.")

    return make


def _classifier() -> LatentClassifier:
    return LatentClassifier(1, 18 * 512, published_names(40), (2048, 512), 32)


def _e2style() -> State:
    cfg = E2StyleConfig(resolution=256, num_ws=18, w_dim=512, split=(9, 5, 4), backbone="ir-se-50", stages=3)
    state = named(E2Style(cfg), keymaps.e2style(3, FIRST, FURTHER, HEADS), "")
    # The last stage of each trunk is in the file, and never ran.
    trunk = named(WEncoder(WEncoderConfig(resolution=256, num_ws=18, w_dim=512)), keymaps.W_ENCODER, "")
    unused = {name: t for name, t in trunk.items() if re.match(r"body\.(21|22|23)\.", name)}
    for stage in (FIRST, f"{FURTHER}.0", f"{FURTHER}.1"):
        state |= {f"{stage}.{name}": t for name, t in unused.items()}
    return state | decoder(1024)


def _padinv() -> State:
    shape = {"kind": "psp", "resolution": 256, "num_ws": 18, "w_dim": 512, "backbone": "ir-se-50"}
    given = {"encoder": shape, "num_ws": 18, "const_channels": 512, "ring_channels": (512,) * 4, "relative": False}
    return named(PadInv(PadInvConfig.model_validate(given)), keymaps.PADINV, "encoder.")


def _options(encoder_type: str, **more: Any) -> dict[str, Any]:
    return {"dataset_type": "ffhq_encode", "encoder_type": encoder_type, "learning_rate": 1e-4, **more}


IR, RESNET = keymaps.IR_SE_50_ROWS, keymaps.RESNET_34_ROWS
Case = tuple[Callable[[], State], Mapping[str, Any], tuple[int, ...] | None]
CASES: Mapping[str, Case] = {
    "psp_gradual_r32": (
        _rows(Psp, PspConfig, IR, 32, backbone="ir-se-50"), _options("GradualStyleEncoder", output_size=32), (8, 512)
    ),
    "psp_w_r32": (
        _rows(WEncoder, WEncoderConfig, keymaps.W_ENCODER, 32),
        _options("BackboneEncoderUsingLastLayerIntoW", learn_in_w=True, output_size=32),
        (1, 512),
    ),
    "e4e_r32": (_rows(E4e, E4eConfig, IR, 32, backbone="ir-se-50"), _options("Encoder4Editing", stylegan_size=32), (8, 512)),
    "restyle_psp_backbone_r32": (
        _rows(Psp, PspConfig, IR, 32, backbone="ir-se-50", pyramid=False, sees_rendering=True),
        _options("BackboneEncoder", input_nc=6, n_iters_per_batch=5),
        (8, 512),
    ),
    "restyle_e4e_resnet_r32": (
        _rows(E4e, E4eConfig, RESNET, 32, backbone="resnet-34", pyramid=False, sees_rendering=True),
        _options("ResNetProgressiveBackboneEncoder", input_nc=6, n_iters_per_batch=5),
        (8, 512),
    ),
    "hyperstyle_w_encoder_r256": (
        _rows(WEncoder, WEncoderConfig, keymaps.W_ENCODER, 256), _options("WEncoder", output_size=256), (14, 512)
    ),
    "hyperstyle_r256": (
        _hypernet(256, (0, 2, 3, 5, 6, 17, 18)), _options("SharedWeightsHyperNetResNet", output_size=256), (14, 512)
    ),
    "hyperstyle_ffhq_r1024": (_hypernet(1024), {}, None),
    "hfgi_fusion_r128": (_fusion(128), {}, None),
    "uda_ffhq_r1024": (_fusion(1024, encoder=True), {}, None),
    "style_transformer_r64": (_style_transformer(64), {"output_size": 64, "dataset_type": "ffhq_encode"}, (512,)),
    "style_transformer_ffhq_r1024": (_style_transformer(1024), {}, None),
    "style_transformer_edit_r32": (_editor(32), {"output_size": 32, "dataset_type": "celebs_edit"}, None),
    "style_transformer_edit_r1024": (_editor(1024), {}, None),
    "style_transformer_classifier": (lambda: dict(_classifier().state_dict()), {}, None),
    "e2style_3stages_r1024": (_e2style, {"training_stage": 3, "dataset_type": "ffhq_encode"}, (18, 512)),
    "padinv_ffhq_r1024": (_padinv, {}, None),
}  # fmt: skip
"""Published file -> its tensors, the options of its training that matter, and the shape of its mean latent."""


def digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Of names and shapes, whatever their order."""
    text = "\n".join(f"{name} {list(shapes[name])}" for name in sorted(shapes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digests() -> dict[str, str]:
    """Of every case."""
    return {case: digest({name: tuple(t.shape) for name, t in _tensors(case).items()}) for case in CASES}


def recorded_shapes(golden: Path, case: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a case in the recordings, of the parts that are made here.

    Args:
        golden: the folder of the recordings.
    """
    (file,) = golden.glob(f"*/{case}.json")
    shapes = {name: tuple(spec["shape"]) for name, spec in json.loads(file.read_text())["tensors"].items()}
    parts = {name.partition(".")[0] for name in _tensors(case)}
    return {name: shape for name, shape in shapes.items() if name.partition(".")[0] in parts}
