"""How many images the memory of a device holds, measured by the first step."""

from __future__ import annotations

import torch

SHARE = 0.8  # of the free memory; the rest is for fragments and for images that need more
MOST = 256  # more gain nothing


class Gauge:
    """Watches a CUDA device over one step; on other devices it knows nothing and says so with None."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)

    def lanes(self, now: int) -> int | None:
        """How many fit, after a step with ``now`` of them."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device)
        free, _ = torch.cuda.mem_get_info(self.device)
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return lanes_that_fit(now, peak - self.before, free)


def lanes_that_fit(now: int, used: int, free: int) -> int:
    """At least ``now``, which fitted; else what ``SHARE`` of the free bytes holds when ``now`` lanes used ``used``."""
    more = int(SHARE * free / max(used / now, 1))
    return max(now, min(MOST, more - more % 4))
