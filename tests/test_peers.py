"""The harness for public programs, on a checkout that this test writes: the same modules and calls, our networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.inversion.peers import Peer, as_script, measured
from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.losses.distance import EmbeddedDistance, between
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator

NETWORKS = '''
import tempfile, torch
from pathlib import Path
from ganinv.codes.code import Code
from ganinv.generators.files import open_generator

class Generator(torch.nn.Module):
    """Takes what the original takes, keeps the tensors under their names, and renders by this project."""
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs, synthesis_kwargs):
        super().__init__()
        self.tensors, self.img_resolution = {}, img_resolution
    def load_state_dict(self, state, strict=True):
        self.tensors = dict(state)
        return [], []
    def synthesis(self, ws, noise_mode="const"):
        g = self._opened()
        return FACTOR * g.synthesize(Code(w=ws), noise=noise_mode)
    def _opened(self):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "g.pt"
            torch.save({"G_ema": self.tensors, "config": torch.load("STATE", weights_only=True)["config"]}, path)
            return open_generator(str(path))
FACTOR = 1.0
'''
DNNLIB = "def open_url(path):\n    return open(path, 'rb')\n"
LEGACY = """
import pickle, torch
def load_network_pkl(file):
    data = pickle.load(file)
    assert all(isinstance(data[name], torch.nn.Module) for name in ("G", "D", "G_ema"))
    return data
"""
PROJECTOR = '''
import glob, hashlib, os, torch
URL = 'https://example.org/metrics/vgg16.pt'

def perceptual(device):
    (found,) = glob.glob(os.path.join(os.environ["DNNLIB_CACHE_DIR"], hashlib.md5(URL.encode()).hexdigest() + "_*"))
    return torch.jit.load(found).eval().to(device)

def project(g, target, *, num_steps=1000, device, verbose=False):
    """A few steps of Adam on the first row of w, as the signature promises: every step's latents."""
    net = perceptual(device)
    want = net(target[None], resize_images=False, return_lpips=True)
    w = torch.zeros(1, 1, 16, device=device, requires_grad=True)
    adam, out = torch.optim.Adam([w], lr=0.05), []
    for _ in range(num_steps):
        image = (g.synthesis(w.expand(-1, 6, -1)) + 1) * 127.5
        loss = (net(image, resize_images=False, return_lpips=True) - want).square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        out.append(w.detach().clone()[0])
    return torch.stack(out).repeat(1, 6, 1)
'''
RUN_PTI = """
import os, torch
from pathlib import Path
from lpips import LPIPS
from PIL import Image
import numpy as np
import legacy
from configs import global_config, hyperparameters, paths_config
from training.projectors.w_projector import project

def run_PTI(run_name="", use_wandb=False, use_multi_id_training=False):
    net = LPIPS(net=hyperparameters.lpips_type)
    for path in sorted(Path(paths_config.input_data_path).glob("*.png")):
        with open(paths_config.stylegan2_ada_ffhq, "rb") as file:
            g = legacy.load_network_pkl(file)["G_ema"]
        image = torch.from_numpy(np.asarray(Image.open(path))).permute(2, 0, 1).float()
        w = project(g, image, num_steps=hyperparameters.first_inv_steps, device=torch.device(global_config.device))[-1:]
        assert net(g.synthesis(w), image[None] / 127.5 - 1).shape == (1, 1, 1, 1)
        folder = Path(paths_config.embedding_base_dir) / paths_config.input_data_id / "PTI" / path.stem
        folder.mkdir(parents=True)
        torch.save(w, folder / "0.pt")
        torch.save(g, Path(paths_config.checkpoints_dir) / f"model_{run_name}_{path.stem}.pt")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    files = {
        "dnnlib/__init__.py": "from . import util\n",
        "dnnlib/util.py": DNNLIB,
        "legacy.py": LEGACY,
        "projector.py": PROJECTOR,
        "training/__init__.py": "",
        "training/networks.py": NETWORKS.replace("STATE", str(tmp_path / "place/state.pt")),
        "training/projectors/__init__.py": "",
        "training/projectors/w_projector.py": PROJECTOR,
        "configs/__init__.py": "",
        "configs/global_config.py": "device = 'cuda'\n",
        "configs/hyperparameters.py": "lpips_type = 'alex'\nfirst_inv_steps = 450\nmax_pti_steps = 350\n"
        "first_inv_type = 'w'\nmax_images_to_invert = 30\n",
        "configs/paths_config.py": "stylegan2_ada_ffhq = input_data_path = input_data_id = ''\n"
        "embedding_base_dir = checkpoints_dir = ''\n",
        "scripts/__init__.py": "",
        "scripts/run_pti.py": RUN_PTI,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "place").mkdir()
    return folder


def test_a_distance_is_the_same_as_a_script() -> None:
    g = tiny_generator(16)
    distance = EmbeddedDistance.of(g)
    images = g.render(Code(w=random_w(g, 3)))
    script = as_script(distance, g, 16)
    flat = script((images + 1) * 127.5, resize_images=False, return_lpips=True)
    found = (flat[:1] - flat[1:]).square().sum(1)
    want = between([f[:1] for f in distance.features(images)], [f[1:] for f in distance.features(images)])
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["nvidia", "pti"])
def test_a_checkout_is_run_on_the_same_generator_and_distance(peer: str, checkout: Path, tmp_path: Path) -> None:
    g = tiny_generator(16)
    distance = EmbeddedDistance.of(g)
    target = Target(g.render(Code(w=random_w(g, 2))))
    found = Peer(checkout, tmp_path / "place", g, distance).run(peer, target, 12, 2)
    assert found.seconds > 0
    start = g.render(Code(w=torch.zeros(2, g.num_ws, g.w_dim)))
    assert measured(found.images, target, distance)[1] < 0.8 * measured(start, target, distance)[1]


@pytest.mark.seconds
def test_another_rendering_is_refused(checkout: Path, tmp_path: Path) -> None:
    path = checkout / "training/networks.py"
    path.write_text(path.read_text().replace("FACTOR = 1.0", "FACTOR = 1.5"))
    g = tiny_generator(16)
    with pytest.raises(ConfigError, match="not the same generator"):
        Peer(checkout, tmp_path / "place", g, EmbeddedDistance.of(g))


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    g = tiny_generator(16)
    with pytest.raises(ConfigError, match="expected a folder dnnlib"):
        Peer(tmp_path, tmp_path, g, EmbeddedDistance.of(g))
