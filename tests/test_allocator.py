"""Memory that tensors gave back stays with the process, unless somebody chose otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import ganinv, torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(4 * 2**20)  # 16 MiB: 4,096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(**environment: str) -> int:
    """Of twenty tensors of 16 MiB, one after the other, when there were twenty before."""
    ours = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE" and not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=ours | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.seconds
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library than glibc is left alone")
def test_a_tensor_takes_the_memory_of_the_one_before_it() -> None:
    assert page_faults() < 4096


@pytest.mark.seconds
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library than glibc is left alone")
def test_who_wants_the_system_s_way_gets_it() -> None:
    assert page_faults(GANINV_ALLOCATOR="system", MALLOC_MMAP_THRESHOLD_="1000000") >= 20 * 4096
