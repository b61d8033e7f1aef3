"""Outputs of the original implementations (shared/golden), and files in their layouts made from them."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.reading.checkpoint import read_checkpoint
from ganinv.reading.stub import Stub
from tests.generators.nvidia import own_name

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def golden(file: Path) -> dict[str, Any]:
    """Arrays of an ``.npz``: tensors, and lists of text."""
    with np.load(file, allow_pickle=False) as arrays:
        return {
            k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(np.asarray(v)).clone() for k, v in arrays.items()
        }


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, **CLOSE)


def check_probe(images: Tensor, wplus: Tensor, want: dict[str, Any]) -> None:
    loss = (images * want["probe"]).mean()
    close(loss, want["probe_loss"].float())
    (gradient,) = torch.autograd.grad(loss, wplus)
    expected = want["probe_grad_wplus"]
    assert (gradient - expected).abs().max() < 1e-6 + 1e-3 * expected.abs().max()


def check_nvidia(g: Generator, want: dict[str, Any]) -> None:
    """Everything that shared/golden/README.md lists for an NVIDIA file."""
    z, c, ws = want["z"], want["c"] if g.c_dim else None, want["ws"]
    close(g.w_mean, want["w_avg"])
    close(g.map(z, c), ws)
    close(g.map(z, c, truncation_psi=0.7), want["ws_psi0.7"])
    close(g.map(z, c, truncation_psi=0.7, truncation_cutoff=4), want["ws_psi0.7_cutoff4"])
    close(g.synthesize(Code(w=ws)), want["img_const"])
    close(g.synthesize(Code(w=ws), noise="none"), want["img_none"])
    close(g.synthesize(Code(w=want["ws_psi0.7"])), want["img_const_psi0.7"])
    wplus = want["wplus"].requires_grad_(True)
    blocks = [n.split(".")[1] for n in want if n.startswith("feat.") and n.endswith(".x")]
    sites = {f"feat.{b}.x": f"block[{2 * int(b[1:]).bit_length() - 6}]" for b in blocks}
    sites |= {n: f"image[{2 * int(n.split('.')[1][1:]).bit_length() - 6}]" for n in want if n.endswith(".img")}
    images, features = g.synthesize(Code(w=wplus), capture=list(sites.values()))
    close(images, want["wplus_img_const"])
    assert sites
    for name, site in sites.items():
        close(features[site], want[name])
    close(g.synthesize(Code(w=wplus), noise="none"), want["wplus_img_none"])
    styles = dict(zip(g.style_names, g.styles(wplus), strict=True))
    assert {own_name(n) for n in want["style_names"]} == set(styles)
    for name in want["style_names"]:
        close(styles[own_name(name)], want[f"style.{name}"])
    check_probe(images, wplus, want)
    if "D_logits" in want:
        assert g.discriminator is not None
        close(g.discriminator(want["img_const"], c), want["D_logits"])
    if "img_const_native_fp16" in want:
        g.precision = "native-float16"
        torch.testing.assert_close(g.synthesize(Code(w=ws)), want["img_const_native_fp16"], atol=0.1, rtol=0.05)
        g.precision = "float32"


def check_rosinality(g: Generator, want: dict[str, Any], truncation: bool = True) -> None:
    """Everything that it lists for a rosinality file; ``truncation`` where the file has its ``latent_avg``."""
    close(g.map(want["z"])[:, 0], want["w"])
    close(g.map(want["z"]), want["ws_z"])
    close(g.synthesize(Code(w=want["ws_z"])), want["img_z"])
    if truncation:
        close(g.w_mean, want["latent_avg"].reshape(-1, g.w_dim)[0])
        close(g.map(want["z"], truncation_psi=0.7), want["ws_z_trunc0.7"])
        close(g.synthesize(Code(w=want["ws_z_trunc0.7"])), want["img_z_trunc0.7"])
    mixed = torch.cat([g.map(want["z"])[:, :3], g.map(want["z2"])[:, 3:]], dim=1)
    close(mixed, want["ws_mix_inject3"])
    close(g.synthesize(Code(w=mixed)), want["img_mix_inject3"])
    wplus = want["wplus"].requires_grad_(True)
    sites = [f"act[{k}]" for k in range(g.cfg.num_convs)]
    images, features = g.synthesize(Code(w=wplus), capture=sites)
    close(images, want["wplus_img"])
    for k, site in enumerate(sites):
        name = "conv1" if k == 0 else f"convs.{k - 1}"
        if f"feat.{name}" in want:
            close(features[site], want[f"feat.{name}"])
        else:
            x = features[site]
            stats = torch.stack([x.mean(), x.std(unbiased=False), x.abs().max()])
            torch.testing.assert_close(stats, want[f"featstat.{name}"].float().reshape(-1)[:3], atol=1e-3, rtol=1e-2)
    close(g.synthesize(Code(w=wplus), noise="none"), want["wplus_img_zero_noise"])
    noise = {k: want[f"noise.{k}"] for k in range(g.cfg.num_convs)}
    close(g.synthesize(Code(w=wplus, noise=noise)), want["wplus_img_given_noise"])
    first = {"convs.0": "conv1", "torgbs.0": "to_rgb1"}
    for own, style in zip(g.style_names, g.styles(wplus), strict=True):
        kind, index = own.split(".")
        close(style, want[f"style.{first.get(own) or f'{kind}.{int(index) - 1}'.replace('torgbs', 'to_rgbs')}"])
    check_probe(images, wplus, want)


# NVIDIA's pickles hold objects that reduce to a call of ``torch_utils.persistence._reconstruct_persistent_obj``. To write
# one, that name has to exist while pickle runs.


class Persistent:
    """Pickles as an object of NVIDIA's persistent classes."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.meta = meta

    def __reduce__(self) -> Any:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def rewritten(file: Path, protocol: int, change: Callable[[dict[str, Any]], None] | None = None) -> bytes:
    """A golden pickle written again by ``pickle``, after ``change`` on its tree (modules as ``Persistent``)."""
    tree = _persistent(read_checkpoint(str(file)), {})
    if change is not None:
        change(tree)
    return pickled(tree, protocol)


def pickled(tree: Any, protocol: int = 4, write: Callable[[Any, int], bytes] = pickle.dumps) -> bytes:
    """A tree with ``Persistent`` modules as NVIDIA's programs write it."""
    with _their_names():
        return write(tree, protocol)


def module(network: Persistent, path: str = "") -> dict[str, Any]:
    """The state of a submodule."""
    for name in path.split(".") if path else ():
        network = network.meta["state"]["_modules"][name]
    return network.meta["state"]


@contextmanager
def _their_names() -> Iterator[None]:
    package, persistence = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        raise AssertionError("nothing may call this")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    sys.modules |= {"torch_utils": package, "torch_utils.persistence": persistence}
    try:
        yield
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


def _persistent(node: Any, done: dict[int, Any]) -> Any:
    if id(node) in done:
        return done[id(node)]
    if isinstance(node, Stub) and node.cls.endswith("_reconstruct_persistent_obj"):
        out: Any = Persistent({})
        done[id(node)] = out
        out.meta = _persistent(node.args[0], done)
        return out
    if isinstance(node, dict):
        return {k: _persistent(v, done) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_persistent(v, done) for v in node)
    return node
