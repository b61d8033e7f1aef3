"""torchvision and LPIPS beside any build of torch. In a process of its own: what is imported first decides."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
from ganinv.losses._compat import ensure_torchvision
first = ensure_torchvision()
assert ensure_torchvision() == first
import lpips, torch, torchvision.transforms
distance = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, verbose=False)
image = torch.rand(1, 3, 64, 64)
assert distance(image, image).item() == 0.0
if first:
    torchvision.ops.nms(torch.rand(2, 4), torch.rand(2), 0.5)
"""


@pytest.mark.seconds
def test_torchvision_and_lpips_can_be_imported() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
