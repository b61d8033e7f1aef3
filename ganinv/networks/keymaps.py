"""The names that published files have for our parameters: one table for each family.

Left: the beginning of our name (a regular expression). Right: what the file has instead. The first match counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ganinv.networks.adopt import Rules


def _ir_units(ours: str, theirs: str) -> Rules:
    """Residual units of IR-SE-50 and of HFGI's networks; ``ours`` and ``theirs`` are the prefix of one unit."""
    inner = (("norm1", 0), ("conv1", 1), ("act", 2), ("conv2", 3), ("norm2", 4), ("squeeze", 5))
    return [
        *((rf"{ours}\.{name}\.", rf"{theirs}.res_layer.{i}.") for name, i in inner),
        (rf"{ours}\.shortcut\.", rf"{theirs}.shortcut_layer."),
    ]


def _irse(prefix: str) -> Rules:
    return [(rf"{prefix}stem\.", "input_layer."), *_ir_units(rf"{prefix}units\.(\d+)", r"body.\1")]


def _resnet(prefix: str) -> Rules:
    return [
        (rf"{prefix}stem\.0\.", "conv1."),
        (rf"{prefix}stem\.1\.", "bn1."),
        (rf"{prefix}stem\.2\.", "relu."),
        (rf"{prefix}blocks\.(\d+)\.norm(\d)\.", r"body.\1.bn\2."),
        (rf"{prefix}blocks\.(\d+)\.shortcut\.", r"body.\1.downsample."),
        (rf"{prefix}blocks\.", "body."),
    ]


IR_SE_50_TRUNK: Rules = _irse("")
RESNET_34_TRUNK: Rules = _resnet("")

ROWS: Rules = [
    (r"heads\.", "styles."),
    (r"backbone\.lateral_medium\.", "latlayer1."),
    (r"backbone\.lateral_fine\.", "latlayer2."),
]
"""Heads and pyramid of pSp, e4e and ReStyle."""

IR_SE_50_ROWS: Rules = [*ROWS, *_irse(r"backbone\.trunk\.")]
RESNET_34_ROWS: Rules = [*ROWS, *_resnet(r"backbone\.trunk\.")]
W_ENCODER: Rules = _irse(r"trunk\.")
"""``linear.*`` has the same name in the file."""

NAIVE_W_PLUS: Rules = [*_irse(r"trunk\."), (r"norm\.", "output_layer_2.0."), (r"features\.", "output_layer_2.3.")]

_STAGES = (0, 3, 7, 21, 24)  # first unit of each stage of IR-SE-50
PADINV: Rules = [
    (r"encoder\.latent_avg", "w_avg"),
    (r"encoder\.backbone\.trunk\.stem\.", "input_layer."),
    *(
        rule
        for stage in range(4)
        for i in range(_STAGES[stage], _STAGES[stage + 1])
        for rule in _ir_units(rf"encoder\.backbone\.trunk\.units\.{i}", f"backbone_stages.{stage}.{i - _STAGES[stage]}")
    ),
    (r"encoder\.backbone\.lateral_medium\.", "fpn.lateral_layers.1."),
    (r"encoder\.backbone\.lateral_fine\.", "fpn.lateral_layers.0."),
    (r"encoder\.heads\.", "latent_heads."),
    *_ir_units(r"extractor\.(\d)", r"padding_extractor.\1"),
    (r"ring_heads\.", "padding_modulation_heads."),
]
"""PadInv's ``models.encoder``. Its mean latent is the generator's."""


def invertibility(spaces: Sequence[str]) -> Rules:
    """SAM's error maps: a trunk, and a head for each of ``spaces`` in our order."""
    heads = [(rf"errors\.heads\.{i}\.", f"{space}.") for i, space in enumerate(spaces)]
    return [(r"errors\.base\.", "sd_base."), *heads]


FACE_EMBEDDING: Rules = [
    *_irse(r"trunk\."),
    (r"norm\.", "output_layer.0."),
    (r"linear\.", "output_layer.3."),
    (r"unit\.", "output_layer.4."),
]

RESIDUAL_ALIGNER: Rules = [
    (r"stem\.", "conv_layer1."),
    *(
        rule
        for i, ours in enumerate(("down", "up"))
        for k in range(3)
        for rule in _ir_units(rf"{ours}\.{k}\.(\d+)", rf"{('conv_layer', 'dconv_layer')[i]}{k + 2 - i}.\1")
    ),
]
CONSULTATION: Rules = [
    (r"stem\.", "conv_layer1."),
    *(rule for k in range(2) for rule in _ir_units(rf"stages\.{k}\.(\d+)", rf"conv_layer{k + 2}.\1")),
    (r"(scale|shift)\.0\.", r"condition_\g<1>3.0."),
    (r"(scale|shift)\.1\.", r"condition_\g<1>3.2."),
]
"""HFGI: ``grid_align.*`` and ``residue.*``."""


def e2style(stages: int, first: str, further: str, heads: tuple[str, ...]) -> Rules:
    """E2Style; ``heads`` are the names of the coarse, the medium and the fine head."""
    rules: Rules = []
    for k in range(stages):
        ours, theirs = rf"stages\.{k}\.", f"{first}." if not k else f"{further}.{k - 1}."
        inner: Rules = [
            *_irse(r"backbone\."),
            *((rf"heads\.{i}\.norm\.", f"{head}.0.") for i, head in enumerate(heads)),
            *((rf"heads\.{i}\.linear\.", f"{head}.3.") for i, head in enumerate(heads)),
        ]
        rules += [(ours + pattern, theirs + name) for pattern, name in inner]
    return rules


def decoder_layer(ours: str, theirs: str) -> Rules:
    """A decoder layer with PyTorch's names; its stacked projections are split."""
    attention = (("self_attention", "self_attn"), ("cross_attention", "multihead_attn"))
    return [
        *((rf"{ours}{a}\.out\.", f"{theirs}{b}.out_proj.") for a, b in attention),
        *((rf"{ours}{a}\.", f"{theirs}{b}.") for a, b in attention),
        *((rf"{ours}norms\.{i}\.", f"{theirs}norm{i + 1}.") for i in range(3)),
        (ours, theirs),
    ]


def style_transformer(mapping_layers: int) -> Rules:
    """Style Transformer's encoder, and ``decoder.style.*``."""
    scales = enumerate(("coarse", "medium", "fine"))
    return [
        *ROWS[1:],
        *_irse(r"backbone\.trunk\."),
        *(rule for i, name in scales for rule in decoder_layer(rf"layers\.{i}\.", f"transformerlayer_{name}.")),
        *((rf"mapping\.fc\.{i}\.", f"decoder.style.{i + 1}.") for i in range(mapping_layers)),
    ]


REFERENCE_EDITOR: Rules = decoder_layer(r"layer\.", "transformerlayer.")
"""Style Transformer's editor; ``classifier.*`` has the same names in the file."""


def hyper_network(indices: Mapping[str, int]) -> Rules:
    """HyperStyle's ``hypernet.*``; ``indices`` gives the number of each tuned layer in the order of use."""
    rules: Rules = [*_resnet(r"trunk\."), (r"shared\.", "shared_weight_hypernet.")]
    for name, i in indices.items():
        ours = rf"branches\.{name.replace('.', '_')}\."
        last = 0 if name.startswith("torgbs.") else 1  # after the pooling that toRGB layers do not have
        rules += [
            (rf"{ours}head\.linear\.", f"refinement_blocks.{i}.output.{last}."),
            (ours, f"refinement_blocks.{i}."),
        ]
    return rules


def in_domain(levels: int) -> Rules:
    """The PyTorch release of In-Domain inversion; block 0 is the stem, the last one the linear layer."""
    last = f"block{levels}."
    blocks: Rules = [
        rule
        for i in range(levels - 1)
        for ours, conv, bias, norm in (
            ("first", "conv1", "wscale1", "bn1"),
            ("second", "conv2", "wscale2", "bn2"),
            ("shortcut", "conv", "", "bn"),
        )
        for rule in (
            (rf"blocks\.{i}\.{ours}\.conv\.", f"block{i + 1}.{conv}."),
            (rf"blocks\.{i}\.{ours}\.bias", f"block{i + 1}.{bias}.bias"),
            (rf"blocks\.{i}\.{ours}\.norm\.", f"block{i + 1}.{norm}.bn."),
        )
    ]
    return [
        (r"stem\.conv\.", "block0.conv."),
        (r"stem\.norm\.", "block0.bn.bn."),
        *blocks,
        (r"linear\.", f"{last}fc."),
        (r"norm\.", f"{last}bn.bn."),
    ]


def _plain_units(ours: str, theirs: str, names: Sequence[str]) -> Rules:
    """Units of StyleFeatureEditor's networks; ``names`` are the file's names of norm1, conv1, norm2, act, conv2 and norm3."""
    inner = ("norm1", "conv1", "norm2", "act", "conv2", "norm3")
    return [(rf"{ours}\.{name}\.", rf"{theirs}.{published}.") for name, published in zip(inner, names, strict=True)]


def _fuser(ours: str, theirs: str) -> Rules:
    return [
        *_plain_units(rf"{ours}units\.(\d+)", rf"{theirs}body.\1.body", [str(i) for i in range(6)]),
        (rf"{ours}conv\.", f"{theirs}conv."),
    ]


FEATURE_INVERTER: Rules = [
    *(
        rule
        for i in range(4)
        for rule in (
            *_plain_units(
                rf"backbone\.stages\.{i}\.(\d+)",
                rf"fs_backbone.block_{i + 1}.\1",
                ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"),
            ),
            (rf"backbone\.stages\.{i}\.(\d+)\.shortcut\.", rf"fs_backbone.block_{i + 1}.\1.downsample."),
        )
    ),
    (r"backbone\.stem\.", "fs_backbone.conv."),
    (r"heads\.", "fs_backbone.styles."),
    (r"content\.", "fs_backbone.content_layer."),
    *_fuser(r"fuser\.", "fuser."),
]
"""StyleFeatureEditor's inverter: ``inverter.*`` beside an editor, ``encoder.*`` by itself."""

FEATURE_EDITOR: Rules = _fuser(r"network\.", "")
"""StyleFeatureEditor's editor of features: ``encoder.*``."""
