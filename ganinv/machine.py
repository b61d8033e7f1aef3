"""What computes in this process: device, library, threads, and whether the rest of a batch leaves a trace in an image's result.

Torch is imported when it is asked.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ganinv.switches import switches_set


@dataclass(frozen=True)
class Machine:
    """What a worker computes on.

    Args:
        device: name of the processor, or of the GPU.
        library: that multiplies matrices there, with its version.
        threads: of one process.
        traces: operations in which an image's result depends on its batch, see ``ganinv.stages.company``.
        switches: variables of the environment that change what is computed, ``NAME=value``.
        gpu: whether the device is one.
    """

    device: str
    library: str
    threads: int
    traces: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    gpu: bool = False

    @classmethod
    def here(cls, device: str = "cpu") -> Machine:
        """This process, as it would work on ``device``."""
        import torch

        from ganinv.stages.company import traces

        gpu = torch.device(device).type == "cuda"
        return cls(
            device=torch.cuda.get_device_name(device) if gpu else processor(),
            library=f"cuBLAS of CUDA {torch.version.cuda}" if gpu else library(),
            threads=torch.get_num_threads(),
            traces=traces(device),
            switches=tuple(f"{name}={value}" for name, value in switches_set().items()),
            gpu=gpu,
        )

    def __str__(self) -> str:
        """``AMD EPYC, oneMKL 2024.2, 2 threads``."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return ", ".join([self.device, self.library, threads])

    @property
    def warning(self) -> str:
        """In words, where the promise that the rest of a batch leaves no trace does not hold; else empty."""
        if not self.traces:
            return ""
        more = f" and {len(self.traces) - 2} more" if len(self.traces) > 2 else ""
        return (
            f"on {self.device} with {self.library} an image's result depends in its last digits on its batch "
            f"({', '.join(self.traces[:2])}{more}), and after hundreds of steps visibly"
        )


@cache
def processor() -> str:
    """The processor's name, as it gives it itself."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return " ".join(named[1].split()) if named else platform.processor() or platform.machine()


@cache
def library() -> str:
    """What multiplies matrices on the processor, as PyTorch says that it was built."""
    import torch

    built = torch.__config__.show()
    if mkl := re.search(r"Math Kernel Library Version (\S+?)(-\S*)?\s", built):
        return f"oneMKL {mkl[1]}"
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    return blas[1] if blas else "a BLAS that PyTorch does not name"
