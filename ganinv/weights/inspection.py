"""Describe a weight file. Nothing in it is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
from torch import nn

from ganinv.errors import WeightsRefused
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import ASSETS, open_generator, read_json
from ganinv.generators.formats.find import Named, Network, list_networks
from ganinv.generators.integers import stored_parts
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import ASSETS as ENCODER_ASSETS
from ganinv.methods.files import FORMAT
from ganinv.methods.published.describe import describe
from ganinv.methods.published.description import EncoderDescription
from ganinv.methods.published.kinds import known_parts
from ganinv.reading.checkpoint import open_checkpoint
from ganinv.reading.fetch import path_kind

_CONTAINERS = {"pickle": "a pickle", "torch zip": "a torch file", "torch stream": "an old torch file"}


@dataclass(frozen=True)
class GeneratorFacts:
    """A StyleGAN2 generator.

    Attributes:
        network: which one of the file (``G_ema``, ``G``). layout: the dialect of its tensors' names.
        channels: resolution -> width. c_dim: classes, 0 for an unconditional one.
        parameters: trained values of the mapping, of the synthesis, of both.
        w_mean_norm: length of the mean of W. w_std: root mean squared distance of w to it, over all dimensions.
        computed: what the file lacks and was computed or drawn, with samples and seeds. assumed: what it does not say.
        origin: for a folder in our format, the record of the file that it was made from.
    """

    network: str
    family: str
    layout: str
    resolution: int
    img_channels: int
    channels: dict[int, int]
    z_dim: int
    w_dim: int
    c_dim: int
    num_ws: int
    mapping_layers: int
    mapping_lr_mul: float
    architecture: str
    num_fp16_res: int
    conv_clamp: float | None
    parameters: dict[str, int]
    fingerprint: str
    w_mean_norm: float
    w_std: float
    computed: dict[str, Any]
    assumed: dict[str, Any]
    origin: dict[str, Any]


@dataclass(frozen=True)
class DiscriminatorFacts:
    """A StyleGAN2 discriminator; ``channels``: resolution -> width."""

    resolution: int
    img_channels: int
    channels: dict[int, int]
    c_dim: int
    architecture: str
    parameters: int


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder.

    Attributes:
        method: ``psp``, ``e4e``, ``restyle-e4e``, ``hyperstyle``, ... encoder_type: the class of the published code.
        n_styles: rows of W+. input_size: (height, width) of the images that it reads.
        latent_avg: shape of the mean latent in the file; None when it has none.
        parts: network -> values in it. opts: options of its training.
        generator: name and fingerprint of the generator that an encoder in our format is for.
    """

    method: str
    encoder_type: str | None
    n_styles: int
    input_size: tuple[int, int]
    input_channels: int
    latent_avg: tuple[int, ...] | None
    parts: dict[str, int]
    opts: dict[str, Any]
    generator: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """What ``inspect_weights`` found out.

    Attributes:
        container: ``pickle``, ``torch zip``, ``torch stream``, ``safetensors``. size: bytes of weights.
        sha256: of the file (of our folder: of the main safetensors file).
        networks: the StyleGAN2 networks in the file, by name.
        no_discriminator: why there is none beside the generator.
        encoder_refused: why something that looks like an encoder cannot be used as one.
    """

    uri: str
    container: str
    size: int
    sha256: str
    networks: tuple[Named, ...] = ()
    generator: GeneratorFacts | None = None
    discriminator: DiscriminatorFacts | None = None
    no_discriminator: str = ""
    encoder: EncoderFacts | None = None
    encoder_refused: str = ""

    @property
    def summary(self) -> str:
        """One sentence."""
        parts = []
        if (e := self.encoder) is not None:
            kind = f"{e.method}, {e.encoder_type}" if e.encoder_type else e.method
            rows = f"{e.n_styles} rows of W+" if e.n_styles else "any generator with its sites"
            parts.append(f"an encoder ({kind}) for {rows}")
        if (g := self.generator) is not None:
            condition = f"conditional on {g.c_dim} classes" if g.c_dim else "unconditional"
            parts.append(
                f"a StyleGAN2 generator ({g.layout} layout) of {g.resolution}x{g.resolution} images, {condition}"
            )
        if (d := self.discriminator) is not None:
            parts.append(f"a discriminator of {d.resolution}x{d.resolution} images")
        sentence = f"{', and '.join(parts)}, in {_CONTAINERS.get(self.container, self.container)}"
        return sentence[0].upper() + sentence[1:]


def inspect_weights(
    uri: str, *, network: Network | None = None, sha256: str | None = None, encoder_type: str | None = None
) -> Inspection:
    """What a weight file is: a generator, an encoder, or both.

    Args:
        uri: what ``open_generator`` and ``open_inverter`` take: a file, a folder in our format, an embedded name.
        network: the generator to look at; by default G_ema, or G if there is no average. ``D`` looks at that alone.
        sha256: refuse a file with another hash.
        encoder_type: the published class of an encoder whose options do not name it.

    Raises:
        WeightsRefused: neither; says what it is instead, or what is wrong with it.
    """
    for assets in (ASSETS, ENCODER_ASSETS):
        if (assets / uri / "config.json").is_file():
            return _inspect_folder(str(assets / uri), uri, network, sha256)
    if path_kind(uri, sha256) == "folder":
        return _inspect_folder(uri.rstrip("/"), uri, network, sha256)
    return _inspect_file(uri, network, sha256, encoder_type)


def _inspect_file(uri: str, network: Network | None, sha256: str | None, encoder_type: str | None) -> Inspection:
    if path_kind(uri, sha256) == "missing":
        open_generator(uri)  # refuses, and knows what to say
    with open_checkpoint(uri, sha256=sha256) as checkpoint:
        networks = tuple(list_networks(checkpoint.tree))
        what, refused = find_encoder(checkpoint.tree, encoder_type, uri)
        encoder = None if what is None else _facts(what)
        found: dict[str, Any] = {
            "container": checkpoint.container,
            "size": checkpoint.size,
            "sha256": checkpoint.sha256,
        }
    has_generator = any(named.kind == "generator" for named in networks)
    if not has_generator and network != "D":
        if encoder is None and refused:
            raise WeightsRefused(refused)
        if encoder is None:
            _refuse(uri, bool(networks))
    if has_generator or network == "D":
        found |= _opened(uri, network, sha256)
    return Inspection(uri, **found, networks=networks, encoder=encoder, encoder_refused=refused)


def _refuse(uri: str, has_discriminator: bool) -> None:
    try:
        open_generator(uri)
    except WeightsRefused as error:
        hint = "; it has a discriminator, which network D shows" if has_discriminator else ""
        raise WeightsRefused(f"{error}{hint}") from error


def _inspect_folder(folder: str, uri: str, network: Network | None, sha256: str | None) -> Inspection:
    record = read_json(f"{folder}/config.json")
    if record.get("format") == FORMAT:
        return _inspect_encoder_folder(folder, uri, record, sha256)
    found = _opened(uri, network, sha256)
    files = ["generator.safetensors"] + ["discriminator.safetensors"] * bool(record.get("discriminator"))
    networks = (Named("generator", "G_ema", "ganinv", ""), Named("discriminator", "D", "ganinv", ""))[: len(files)]
    fs, path = fsspec.url_to_fs(folder)
    with open_checkpoint(f"{folder}/{files[0]}") as checkpoint:
        digest = checkpoint.sha256
    size = sum(int(fs.size(f"{path}/{name}")) for name in files)
    return Inspection(uri, "safetensors", size, digest, networks, **found)


def _inspect_encoder_folder(folder: str, uri: str, record: Mapping[str, Any], sha256: str | None) -> Inspection:
    with open_checkpoint(f"{folder}/inverter.safetensors", sha256=sha256) as checkpoint:
        config = record.get("inverter")
        whole: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        inner = whole.get("encoder")  # ReStyle's
        shape: Mapping[str, Any] = inner if isinstance(inner, Mapping) else whole
        average = checkpoint.tree.get("latent_avg", checkpoint.tree.get("encoder.latent_avg"))
        width = int(shape.get("resolution") or 0)
        encoder = EncoderFacts(
            method="-".join(dict.fromkeys(str(part.get("kind")) for part in (whole, shape))),
            encoder_type=None,
            n_styles=int(shape.get("num_ws") or 2 * width.bit_length() - 4),
            input_size=(int(shape.get("input_height") or width), int(shape.get("input_width") or width)),
            input_channels=int(shape.get("img_channels", 3)) * (2 if shape.get("sees_rendering") else 1),
            latent_avg=None if average is None else tuple(average.shape),
            parts={"encoder": sum(math.prod(part.shape) for part in stored_parts(checkpoint.tree).values())},
            opts={},
            generator={
                "name": str(record.get("generator_name")),
                "fingerprint": str(record.get("generator_fingerprint")),
            },
        )
        return Inspection(uri, checkpoint.container, checkpoint.size, checkpoint.sha256, encoder=encoder)


def _opened(uri: str, network: Network | None, sha256: str | None) -> dict[str, Any]:
    if network == "D":
        return {"discriminator": _discriminator(open_generator(uri, network="D", sha256=sha256))}
    generator = open_generator(uri, network=network, sha256=sha256)
    assert generator.provenance is not None
    return {
        "generator": _generator(generator),
        "discriminator": None if generator.discriminator is None else _discriminator(generator.discriminator),
        "no_discriminator": generator.provenance.no_discriminator,
    }


def _generator(g: Generator) -> GeneratorFacts:
    cfg, origin = g.cfg, g.provenance
    assert origin is not None
    parts = {"mapping": _count(g.mapping), "synthesis": _count(g.synthesis)}
    return GeneratorFacts(
        network=origin.network,
        family=origin.family,
        layout=origin.layout,
        channels=_widths(cfg.channels),
        num_ws=cfg.num_ws,
        parameters=parts | {"all": sum(parts.values())},
        fingerprint=g.fingerprint,
        w_mean_norm=float(g.w_mean.double().norm()),
        w_std=float(g.w_std),
        computed=origin.computed,
        assumed=origin.assumed,
        origin=origin.origin,
        **cfg.model_dump(exclude={"channels"}),
    )


def _discriminator(d: Discriminator) -> DiscriminatorFacts:
    cfg = d.cfg
    return DiscriminatorFacts(
        cfg.resolution, cfg.img_channels, _widths(cfg.channels), cfg.c_dim, cfg.architecture, _count(d)
    )


def _facts(what: EncoderDescription) -> EncoderFacts:
    return EncoderFacts(
        method=what.method,
        encoder_type=what.encoder_type,
        n_styles=what.n_styles,
        input_size=what.input_size,
        input_channels=what.input_channels,
        latent_avg=None if what.latent_avg is None else tuple(what.latent_avg.shape),
        parts={name: sum(math.prod(t.shape) for t in tensors.values()) for name, tensors in what.parts.items()},
        opts=what.opts,
    )


def find_encoder(tree: Any, encoder_type: str | None, where: str) -> tuple[EncoderDescription | None, str]:
    """The encoder of a checkpoint, or why what looks like one is not; (None, "") for what does not look like one."""
    try:
        return describe(tree, encoder_type=encoder_type, where=where), ""
    except WeightsRefused as error:
        return None, str(error) if _looks_like_encoder(tree) else ""


def _looks_like_encoder(tree: Any) -> bool:
    if not isinstance(tree, Mapping):
        return False
    state = tree.get("state_dict")
    names = list(state) if isinstance(state, Mapping) else list(tree)
    firsts = {str(name).removeprefix("module.").partition(".")[0] for name in names}
    others = {"output_layer.3.weight", "fcs.0.weight"}  # ArcFace, a classifier of latents: refused by name
    return bool(firsts & (set(known_parts()) - {"decoder"}) or others & set(names))


def _widths(channels: tuple[int, ...]) -> dict[int, int]:
    return {4 * 2**i: width for i, width in enumerate(channels)}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
