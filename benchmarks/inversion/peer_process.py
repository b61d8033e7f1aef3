"""The side of ``benchmarks.inversion.peers`` that runs in a process of the user's own checkout. Needs torch and that checkout.

    python peer_process.py prepare|nvidia|pti SETTINGS.json

The checkout is the working folder and first on the path. Nothing of it is copied, and nothing in it is changed: what it reads
from elsewhere (a network, a perceptual net) is put where it looks, and its settings are set as its README says.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch


def prepare(given: dict[str, Any]) -> dict[str, Any]:
    """The generator as a pickle that this checkout's own loader reads: its class, with the given tensors. Rendered here, to be
    compared with what it should render."""
    networks = importlib.import_module("training.networks")
    file = torch.load(given["state"], weights_only=True)
    state, arguments = file["G_ema"], file["config"]["init_kwargs"]["G"]
    arguments["synthesis_kwargs"].setdefault("channel_max", given["widest"])
    g = networks.Generator(**arguments)
    _widen(g, state)
    missing, unexpected = g.load_state_dict(state, strict=False)
    absent = [name for name in missing if not name.endswith("resample_filter")]
    if absent or unexpected:
        raise SystemExit(f"this checkout's generator has other tensors: without {absent[:3]}, besides {unexpected[:3]}")
    g = g.eval().requires_grad_(False)
    with open(given["network"], "wb") as out:
        pickle.dump({"G": g, "D": torch.nn.Module(), "G_ema": g}, out)  # loaders look whether there is one
    with torch.no_grad():
        rendered = g.synthesis(torch.load(given["latents"], weights_only=True), noise_mode="const")
    torch.save(rendered.float(), given["found"])
    return {}


def _widen(g: Any, state: dict[str, torch.Tensor]) -> None:
    """Parameters of the given widths where the class's rule gives others, and what it remembers of its widths."""
    for name, parameter in list(g.named_parameters()):
        if name in state and state[name].shape != parameter.shape:
            module, _, last = name.rpartition(".")
            setattr(g.get_submodule(module), last, torch.nn.Parameter(torch.empty_like(state[name])))
            block = g.get_submodule(module.rpartition(".")[0])
            if last == "weight" and module.endswith("conv0"):
                block.in_channels = state[name].shape[1]
            if last == "weight" and module.endswith("torgb"):
                g.get_submodule(module).weight_gain = state[name][0].numel() ** -0.5


def nvidia(given: dict[str, Any]) -> dict[str, Any]:
    """Each image by ``projector.project``, with the settings that it has by itself but for the number of steps."""
    _distance_in_the_cache(Path("projector.py"), given)
    projector, device = importlib.import_module("projector"), torch.device(given["device"])
    dnnlib, legacy = importlib.import_module("dnnlib"), importlib.import_module("legacy")
    importlib.import_module("dnnlib.util")
    with dnnlib.util.open_url(given["network"]) as file:
        g = legacy.load_network_pkl(file)["G_ema"].requires_grad_(False).to(device)
    images = torch.load(given["images"], weights_only=True)
    found, seconds = [], list[float]()
    projector.project(g, target=images[0].to(device), num_steps=2, device=device, verbose=False)  # kernels, caches
    for image in images:
        started = _now(device)
        w = projector.project(g, target=image.to(device), num_steps=given["steps"], device=device, verbose=False)
        seconds.append(_now(device) - started)
        with torch.no_grad():
            found.append(g.synthesis(w[-1:].to(device), noise_mode="const").float().cpu())
    torch.save(torch.cat(found), given["found"])
    return {"seconds": seconds}


def pti(given: dict[str, Any]) -> dict[str, Any]:
    """All images by ``run_PTI``, with the settings of the checkout but for the numbers of steps."""
    sys.modules["lpips"] = _lpips_of(given["distance"], given["device"])
    if importlib.util.find_spec("wandb") is None:  # imported in any case, used only where it is asked for
        sys.modules["wandb"] = types.ModuleType("wandb")
    _distance_in_the_cache(Path("training/projectors/w_projector.py"), given)
    paths = importlib.import_module("configs.paths_config")
    settings = importlib.import_module("configs.hyperparameters")
    everywhere = importlib.import_module("configs.global_config")
    out = Path(given["out"])
    for name in ("embeddings", "checkpoints"):
        (out / name).mkdir(parents=True, exist_ok=True)
    _set(paths, stylegan2_ada_ffhq=given["network"], input_data_path=given["folder"], input_data_id="peers",
         embedding_base_dir=str(out / "embeddings"), checkpoints_dir=str(out / "checkpoints"))  # fmt: skip
    _set(settings, first_inv_steps=given["steps"], max_pti_steps=given["tuning_steps"], first_inv_type="w",
         max_images_to_invert=10**9)  # fmt: skip
    _set(everywhere, device=given["device"])
    run = importlib.import_module("scripts.run_pti").run_PTI
    device = torch.device(given["device"])
    started = _now(device)
    run(run_name="peers", use_wandb=False, use_multi_id_training=False)
    seconds = _now(device) - started
    found = []
    for name in given["names"]:
        g = torch.load(out / "checkpoints" / f"model_peers_{name}.pt", weights_only=False).to(
            device
        )  # it wrote it itself
        pivot = next((out / "embeddings").glob(f"**/{name}/0.pt"))
        with torch.no_grad():
            w = torch.load(pivot, map_location=device, weights_only=True)
            found.append(g.synthesis(w, noise_mode="const").float().cpu())
    torch.save(torch.cat(found), given["found"])
    return {"seconds": [seconds / len(found)] * len(found)}


def _set(module: Any, **values: Any) -> None:
    for name, value in values.items():
        if not hasattr(module, name):
            raise SystemExit(f"{module.__name__} of this checkout has no {name}: is it the program that was asked for?")
        setattr(module, name, value)


def _distance_in_the_cache(source: Path, given: dict[str, Any]) -> None:
    """Where the checkout looks for the perceptual net that it would download: its cache, under the digest of its URL."""
    url = re.search(r"""['"](https?://[^'"]*vgg16[^'"]*)['"]""", source.read_text())
    if url is None:
        raise SystemExit(f"{source} of this checkout names no perceptual net (a URL with vgg16 in it)")
    cache = Path(given["cache"])
    (cache / "downloads").mkdir(parents=True, exist_ok=True)
    os.environ["DNNLIB_CACHE_DIR"] = str(cache)
    data = Path(given["distance"]).read_bytes()
    name = f"{hashlib.md5(url[1].encode()).hexdigest()}_vgg16.pt"
    for folder in (cache, cache / "downloads"):
        (folder / name).write_bytes(data)


def _lpips_of(distance: str, device: str) -> types.ModuleType:
    """A module in the place of the ``lpips`` package, with the given features: [-1, 1] in, [B, 1, 1, 1] out."""
    net = torch.jit.load(distance).eval().to(device)

    class LPIPS(torch.nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            features = [net((x + 1) * 127.5, resize_images=False, return_lpips=True) for x in (a, b)]
            return (features[0] - features[1]).square().sum(1)[:, None, None, None]

    module = types.ModuleType("lpips")
    module.LPIPS = LPIPS  # type: ignore[attr-defined]
    return module


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    found = {"prepare": prepare, "nvidia": nvidia, "pti": pti}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
    print("FOUND " + json.dumps(found))
