"""Torch tensors as NumPy or CuPy arrays and back, without copies."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lticore.errors import ArrayLibraryError

#: Kind of device → the memory of its tensors as arrays.
ARRAYS: dict[str, Callable[[Tensor], Any]] = {
    "cpu": Tensor.numpy,
    "cuda": lambda tensor: _cupy().from_dlpack(tensor),
}


def to_array(tensor: Tensor) -> Any:
    """The tensor's memory as a NumPy (CPU) or CuPy (CUDA) array, cut from its graph.

    Raises
    ------
    ArrayLibraryError
        For CUDA tensors without CuPy, and for other devices.
    """
    if tensor.device.type not in ARRAYS:
        raise ArrayLibraryError(
            f"tensors on device '{tensor.device}' have no array library for lticore: move the "
            "model to 'cpu' or 'cuda'"
        )
    return ARRAYS[tensor.device.type](tensor.detach().resolve_conj().resolve_neg())


def has_arrays(device: torch.device) -> bool:
    """Whether tensors on ``device`` are arrays of a library that lticore computes with."""
    if device.type == "cuda":
        return importlib.util.find_spec("cupy") is not None
    return device.type == "cpu"


def to_tensor(array: Any) -> Tensor:
    """A tensor over the memory of a NumPy or CuPy array (read-only arrays are copied)."""
    if hasattr(array, "__dlpack__") and type(array).__module__.startswith("cupy"):
        return torch.from_dlpack(array)  # type: ignore[attr-defined]
    import numpy as np

    array = np.asarray(array)
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    # Strides of empty arrays are 0 in NumPy and those of one step in torch, which compiled code
    # compares.
    return tensor if tensor.numel() else tensor.new_empty(tensor.shape)


@contextmanager
def current_stream(device: torch.device) -> Iterator[None]:
    """CuPy work inside runs on torch's current stream of ``device``, in torch's memory; nothing
    on the CPU."""
    if device.type != "cuda":
        yield
        return
    cuda, stream = _cupy().cuda, torch.cuda.current_stream(device)
    with (
        cuda.Device(device.index),
        cuda.ExternalStream(stream.cuda_stream),
        cuda.using_allocator(_torch_memory().malloc),
    ):
        yield


@cache
def _torch_memory() -> Any:
    """An allocator of CuPy that asks torch's. CuPy's own could call the driver while a graph is
    captured, which fails, and would not know which memory the graph goes on using."""
    cuda = _cupy().cuda

    def allocate(size: int, device: int) -> int:
        stream = cuda.get_current_stream().ptr
        return torch.cuda.caching_allocator_alloc(size, device, stream)

    def free(pointer: int, device: int) -> None:
        torch.cuda.caching_allocator_delete(pointer)

    return cuda.PythonFunctionAllocator(allocate, free)


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise ArrayLibraryError(
            "CUDA tensors need CuPy: pip install 'lticore[gpu13]' (CUDA 13) or 'lticore[gpu12]'"
        ) from error
    return cupy
