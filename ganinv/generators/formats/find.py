"""Which StyleGAN2 networks a file holds, found by the names of their tensors; anything else is refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from ganinv.errors import WeightsRefused
from ganinv.generators.formats import basicsr, genforce, nvidia, rosinality, tensorflow
from ganinv.generators.formats.modules import is_module, state_of_module
from ganinv.generators.formats.parts import Description, StateDict
from ganinv.reading.stub import Stub, brief
from ganinv.reading.tensors import StoredArray, StoredTensor

Network = Literal["G_ema", "G", "D"]

_ROLES: dict[str, Network] = {
    **dict.fromkeys(("G_ema", "g_ema", "Gs", "params_ema", "generator_smooth", "generator_ema", "ema"), "G_ema"),
    **dict.fromkeys(("G", "g", "generator", "netG"), "G"),
    **dict.fromkeys(("D", "d", "discriminator", "netD"), "D"),
}
# Prefixes that wrap a whole network without changing it.
_WRAPPERS = {"module", "decoder", "model", "net", "stylegan", "stylegan2", "network", "stylegan_decoder", *_ROLES}
_GENERATORS = {
    nvidia.GENERATOR_MARK: "nvidia",
    rosinality.GENERATOR_MARK: "rosinality",
    genforce.GENERATOR_MARK: "genforce",
    basicsr.GENERATOR_MARK: basicsr.LAYOUT,
}
_RENAMED = {basicsr.LAYOUT: basicsr.renamed}
"""Dialects that are rosinality's network under other names -> what gives it rosinality's."""
_DISCRIMINATORS = {
    nvidia.DISCRIMINATOR_MARK: "nvidia",
    rosinality.DISCRIMINATOR_MARK: "rosinality",
    basicsr.DISCRIMINATOR_MARK: basicsr.LAYOUT,
}
# Names (or parts of them) that other networks are known by.
_OTHERS = (
    (r"synthesis\.input\.freqs|synthesis\.L0_\d+_\d+\.", "StyleGAN3"),
    (
        r"progression\.0\.|synthesis\.layer0\.(wscale|epilogue|apply_noise)|g_synthesis\.blocks|synthesis\.blocks\.4x4",
        "StyleGAN (1)",
    ),
    (
        r"style_mapping\.\d+\.|constant_input\.const|noise_injector\.",
        "a StyleGAN2 of MMGeneration (or MMagic), whose names are not read here; convert it to rosinality's",
    ),
    (
        r"^(GE?\.)?blocks\.\d+\.(to_style1|to_noise1)",
        "a network of lucidrains' stylegan2-pytorch, which is not a StyleGAN2 as published: it has other blocks",
    ),
    (r"backbone\.synthesis\.b4\.|superresolution\.", "EG3D or another tri-plane generator"),
    (
        r"synthesis\.convs\.0\.weight",
        "the weights of our own format; open the folder they lie in, which has a config.json",
    ),
    (r"encoder\.|input_layer\.0\.weight", "an encoder"),
    (r"(layers|blocks)\.\d+\.(attn|norm1)\.|transformer", "a transformer"),
    (r"^exp_avg|^state$|^param_groups$", "an optimiser's state"),
)
_MAX_DEPTH = 4
_MAX_STATES = 50
_ROSINALITY_CHECK = {"conv1.conv.weight", "style.1.weight", "final_linear.0.weight"}


@dataclass
class FoundNetworks:
    """What a file holds.

    Attributes:
        generator: of the network that was asked for (None for ``D``). discriminator: where it can be built.
        network: which one it is. no_discriminator: why there is none.
        w_std: where ``save_generator`` wrote it beside the weights.
    """

    generator: Description | None
    discriminator: Description | None
    network: Network
    no_discriminator: str = ""
    w_std: float | None = None


@dataclass(frozen=True)
class Named:
    """One network of a file, by its names alone: nobody has checked yet whether it is whole.

    Attributes:
        role: ``G_ema``, ``G``, ``D``; None if the file does not say.
        layout: the dialect. prefix: the prefix of its tensors' names, with a dot.
    """

    kind: Literal["generator", "discriminator"]
    role: Network | None
    layout: str
    prefix: str


@dataclass
class _Candidate:
    """A network by its mark. ``beside``: the dictionary that it lay in."""

    role: Network | None
    state: StateDict
    dialect: str
    prefix: str
    beside: Mapping[Any, Any]


@dataclass
class _Holder:
    """Tensors that may hold a network, or several under prefixes."""

    role: Network | None
    state: StateDict
    beside: Mapping[Any, Any]
    tensorflow: bool = False


def find(tree: Any, network: Network | None = None) -> FoundNetworks:
    """The network that was asked for; by default G_ema, or G if there is no average.

    Raises:
        WeightsRefused: no StyleGAN2 in it, or one that is incomplete or not built here.
    """
    holders = _states(tree)
    generators = [c for h in holders for c in _candidates(h, _GENERATORS)]
    discriminators = [c for h in holders for c in _candidates(h, _DISCRIMINATORS)]
    if not generators and not (network == "D" and discriminators):
        raise WeightsRefused(_what_else([h.state for h in holders], tree))
    found = FoundNetworks(None, None, network or "G_ema")
    if network != "D":
        chosen = _choose(generators, network)
        found.network = chosen.role or "G_ema"
        found.generator = _described(chosen, generator=True)
        found.w_std = _own_w_std(chosen.beside)
    try:
        if not discriminators and any(h.role == "D" for h in holders):
            raise WeightsRefused("the file's discriminator has tensors under names that are not known here")
        found.discriminator = _described(_choose(discriminators, "D"), generator=False)
    except WeightsRefused as error:
        if network == "D":
            raise
        found.no_discriminator = str(error)
    return found


def list_networks(tree: Any) -> list[Named]:
    """Every StyleGAN2 network of a file, in its order."""
    kinds: tuple[tuple[Literal["generator", "discriminator"], Mapping[str, str]], ...] = (
        ("generator", _GENERATORS),
        ("discriminator", _DISCRIMINATORS),
    )
    return [
        Named(kind, c.role, c.dialect, c.prefix)
        for holder in _states(tree)
        for kind, marks in kinds
        for c in _candidates(holder, marks)
    ]


def _choose(candidates: list[_Candidate], network: Network | None) -> _Candidate:
    wanted: tuple[Network | None, ...] = (network, None) if network else ("G_ema", None, "G")
    if network == "G_ema":
        wanted = ("G_ema", None)
    for role in wanted:
        if chosen := [c for c in candidates if c.role == role]:
            return chosen[0]
    roles = sorted({c.role or "one without a name" for c in candidates})
    if network == "D" and not candidates:
        raise WeightsRefused("the file has no discriminator")
    raise WeightsRefused(f"it has no network {network or 'G_ema'}; it has {roles}")


def _described(candidate: _Candidate, generator: bool) -> Description:
    state, beside = candidate.state, candidate.beside
    try:
        if candidate.dialect == "tensorflow":
            return tensorflow.describe_generator(state) if generator else tensorflow.describe_discriminator(state)
        if candidate.dialect == "nvidia":
            config = beside.get("config")
            config = config.get("G" if generator else "D") if isinstance(config, dict) else None
            config = config if isinstance(config, dict) else None
            describe = nvidia.describe_generator if generator else nvidia.describe_discriminator
            out = describe(state, config)
        elif candidate.dialect == "genforce":
            out = genforce.describe_generator(state)
        elif generator:
            average = beside.get("latent_avg")
            known = isinstance(average, StoredTensor | StoredArray)
            out = rosinality.describe_generator(state, average if known else None)
        else:
            out = rosinality.describe_discriminator(state)
        if candidate.dialect in _RENAMED:
            out.layout = candidate.dialect
    except ValidationError as error:
        raise WeightsRefused("; ".join(str(e["msg"]) for e in error.errors())) from error
    if candidate.prefix:
        out.notes["prefix"] = candidate.prefix
    return out


def _own_w_std(beside: Mapping[Any, Any]) -> float | None:
    for key in ("ganinv", "config"):
        record = beside.get(key)
        value = record.get("w_std") if isinstance(record, dict) else None
        if isinstance(value, float) and 0.0 < value < 1e6:
            return value
    return None


def _states(tree: Any) -> list[_Holder]:
    """Everything in the tree that can be a network: modules, TensorFlow networks, dictionaries of tensors."""
    out: list[_Holder] = []
    seen: set[int] = set()

    def walk(node: Any, role: Network | None, beside: Mapping[Any, Any], depth: int) -> None:
        if depth > _MAX_DEPTH or id(node) in seen or len(out) >= _MAX_STATES:
            return
        seen.add(id(node))
        if tensorflow.is_network(node):
            out.append(_Holder(role, tensorflow.state_of(node), beside, tensorflow=True))
        elif is_module(node):
            out.append(_Holder(role, state_of_module(node), beside))
        elif isinstance(node, Stub):
            walk(node.items, role, beside, depth + 1)
        elif isinstance(node, dict):
            flat = {k: v for k, v in node.items() if isinstance(k, str) and isinstance(v, StoredTensor | StoredArray)}
            if flat:
                out.append(_Holder(role, StateDict(flat), beside if depth else node))
            for key, value in node.items():
                if isinstance(value, dict | Stub):
                    walk(value, _ROLES.get(key, role) if isinstance(key, str) else role, node, depth + 1)
        elif isinstance(node, tuple | list) and len(node) == 3 and all(map(tensorflow.is_network, node)):
            for part, name in zip(node, ("G", "D", "Gs"), strict=True):
                walk(part, _ROLES[name], {}, depth + 1)

    walk(tree, None, {}, 0)
    return out


def _candidates(holder: _Holder, marks: Mapping[str, str]) -> Iterator[_Candidate]:
    """Networks among a holder's tensors by their mark, whatever wrapper's prefix is before it."""
    state, role, beside = holder.state, holder.role, holder.beside
    if holder.tensorflow:
        if (role == "D") == (marks is _DISCRIMINATORS):
            yield _Candidate(role, state, "tensorflow", "", beside)
        return
    count = 0
    for name in state.tensors:
        for mark, dialect in marks.items():
            prefix = name.removesuffix(mark)
            parts = prefix.split(".")[:-1]
            if prefix == name or (prefix and prefix[-1] != ".") or not all(part in _WRAPPERS for part in parts):
                continue
            inner = state.under(prefix)
            if dialect == "rosinality" and not inner.tensors.keys() & _ROSINALITY_CHECK:
                continue  # "input.input" alone is not much of a mark
            if dialect == "rosinality" and basicsr.DISCRIMINATOR_MARK in inner.tensors:
                continue  # its last layers have the same names
            if dialect in _RENAMED:
                inner = _RENAMED[dialect](inner)
            named = [_ROLES[p] for p in parts if p in _ROLES]
            yield _Candidate(named[-1] if named else role, inner, dialect, prefix, beside)
            count += 1
            if count >= _MAX_STATES:
                return


def _what_else(states: list[StateDict], tree: Any) -> str:
    """Why there is no StyleGAN2: what the file is instead, as far as its names tell."""
    names = [n for s in states for n in list(s.tensors)[:2000]]
    if others := sorted({s.cls for s in states if s.cls} | set(_classes(tree))):
        said = f" (it holds objects of class {', '.join(others[:5])}, which were left alone)"
    else:
        said = ""
    for pattern, what in _OTHERS:
        if any(re.search(pattern, n) for n in names):
            return f"no StyleGAN2 in it: this is {what}{said}"
    if names:
        return f"no StyleGAN2 in it: its tensors are named {[n[:60] for n in names[:5]]}{said}"
    if isinstance(tree, dict):
        return f"no network in it: its entries are {[brief(k) for k in list(tree)[:8]]}{said}"
    return f"no network in it: it holds {brief(tree)}{said}"


def _classes(tree: Any) -> list[str]:
    """Classes of the stubs at the top of the tree and one level below."""
    top = list(tree.values())[:50] if isinstance(tree, dict) else [tree]
    below = [v for node in top if isinstance(node, dict) for v in list(node.values())[:50]]
    return [node.cls for node in (*top, *below) if isinstance(node, Stub)]
