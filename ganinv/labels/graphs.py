"""Networks that come as a graph: TorchScript and ONNX files.

Trust boundary. Every other weight file here is data: the restricted reader builds tensors and runs nothing. A TorchScript
or ONNX file is a *program* that is executed, in torch's or ONNX Runtime's interpreter. It runs no Python, but it can use
any operator of that runtime, take any amount of time and memory, and reach bugs of native code. Load one only from
somebody you would run a program from. So that a file cannot be exchanged behind a configuration, one that is fetched from
elsewhere must be pinned by its sha256; of a local file the sha256 is recorded with the scores.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor, nn

from ganinv.errors import ConfigError, WeightsRefused
from ganinv.reading.fetch import fetch

INSTALL = "pip install 'ganinv[labellers]'"


def read_graph(uri: str, sha256: str | None) -> tuple[bytes, str]:
    """(content, sha256) of a graph file that may be executed.

    Raises:
        WeightsRefused: no such file, another one than was pinned, or one from elsewhere that is not pinned.
    """
    fetched = fetch(uri, sha256)
    content = fetched.data if fetched.data is not None else Path(fetched.path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is None and not isinstance(fsspec.url_to_fs(uri)[0], fsspec.get_filesystem_class("file")):
        raise WeightsRefused(
            f"{uri} is a program that would be executed, and it comes from elsewhere: if you trust it, pin it with "
            f"sha256: {found} in the labeller's configuration"
        )
    if sha256 is not None and found != sha256.lower():
        fetched.forget()
        raise WeightsRefused(f"{uri}: its sha256 is {found}, expected {sha256}: another file, or a damaged one")
    return content, found


def open_torchscript(uri: str, sha256: str | None = None) -> tuple[nn.Module, str]:
    """(module, sha256) of a TorchScript archive (``torch.jit.save``). See the trust boundary above."""
    content, found = read_graph(uri, sha256)
    try:
        with warnings.catch_warnings():  # torch recommends its newer export; files of this kind are still around
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise WeightsRefused(
            f"{uri} is not a TorchScript archive ({first}); save the network with torch.jit.save, or give its "
            "architecture and weights (kind: torchvision or timm)"
        ) from error
    return module, found


def open_onnx(uri: str, sha256: str | None = None) -> tuple[nn.Module, str]:
    """(module, sha256) of an ONNX file, run by ONNX Runtime on the CPU. It has no gradients.

    The file is given to the runtime as bytes, so it cannot make it read others (external data), and no libraries of
    custom operators are registered.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"an ONNX labeller needs the package onnxruntime: {INSTALL}") from error
    content, found = read_graph(uri, sha256)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes are not public
        first = str(error).strip().partition("\n")[0]
        raise WeightsRefused(f"{uri} is not an ONNX file that ONNX Runtime can run: {first}") from error
    return OnnxNet(session, uri), found


class OnnxNet(nn.Module):
    """An ONNX Runtime session as a module: [B, 3, S, S] to a list of outputs. A fixed batch size is kept to."""

    def __init__(self, session: Any, uri: str) -> None:
        super().__init__()
        self.session = session
        inputs = session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else None
        if shape is None or len(shape) != 4:
            described = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            raise WeightsRefused(f"{uri} must take one input [B, 3, S, S], it takes: {described}")
        self.input = inputs[0].name
        self.dtype = np.float16 if "float16" in inputs[0].type else np.float32
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Outputs of one batch; a last part that is smaller than a fixed batch size is padded."""
        batch = self.batch or len(images)
        parts: list[list[np.ndarray]] = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch].detach().cpu().numpy().astype(self.dtype)
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), self.dtype)])
            parts.append([output[: len(part)] for output in self.session.run(None, {self.input: padded})])
        joined = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        return [torch.from_numpy(output.astype(np.float32)).to(images.device) for output in joined]
