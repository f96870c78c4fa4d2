"""What the device is asked for."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager


class Device:
    """Launches by name, times that the host waits by their reason, and bytes that go each way.

    While a graph is captured the host cannot wait, and CuPy's matrix products raise (14.2).
    """

    def __init__(self):
        self.reset()
        self.capturing = False
        self.fusing = False
        self.absent = False  # whether a call of the driver finds no device
        self.most_bytes = None  # that one array may take
        self.current = 0  # of several devices, the one that is allocated on

    def reset(self):
        self.launches, self.waits = Counter(), Counter()
        self.bytes_to_device = self.bytes_to_host = 0

    def launch(self, name, times=1):
        self.require()
        if self.fusing:
            return
        if self.capturing and name in {"matmul", "dot", "tensordot", "einsum"}:
            raise RuntimeError("cublasSetStream while a graph is captured")
        self.launches[name] += times

    def require(self):
        if self.absent:
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    def wait(self, name, size=0):
        self.require()
        if self.capturing:
            raise RuntimeError(f"{name}: cudaErrorStreamCaptureUnsupported")
        self.waits[name] += 1
        self.bytes_to_host += size

    @contextmanager
    def fused(self):
        """What is asked for inside is not launched by itself."""
        self.fusing = True
        try:
            yield
        finally:
            self.fusing = False

    @contextmanager
    def capture(self):
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False


DEVICE = Device()
