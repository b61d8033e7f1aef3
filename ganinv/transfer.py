"""Tensors on their way from the host to a device, beside what the device computes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sent:
    """A tensor under way."""

    tensor: Tensor
    """On the device; not to be read before ``arrived``."""
    event: torch.cuda.Event | None = None

    def arrived(self) -> Tensor:
        """The tensor, for the current stream: it waits for the copy, the host does not."""
        if self.event is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.event)
            self.tensor.record_stream(stream)  # its memory is not given away while this stream reads it
        return self.tensor


class Sender:
    """Copies from the host on a stream of their own, from pinned memory, so that neither the host nor a kernel waits for
    them. On a processor there is nothing to copy, and tensors arrive as they are. One for each thread that sends.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def send(self, tensor: Tensor) -> Sent:
        """Begin to copy. The pinned copy that is read meanwhile is kept by PyTorch until it was read."""
        if self._stream is None:
            return Sent(tensor.to(self.device))
        with torch.cuda.stream(self._stream):
            there = tensor.pin_memory().to(self.device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        return Sent(there, event)
