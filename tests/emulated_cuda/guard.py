"""Copies of arrays that end at a page no one may touch."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

PAGE, _NO_ACCESS = mmap.PAGESIZE, 0
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """The bytes of ``array`` right before a guard page, and after a guard page and a margin that
    holds no numbers."""

    def __init__(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous, "kernels read arrays without gaps"
        self.array = array
        inner = -(-array.nbytes // PAGE) * PAGE
        self._size = inner + 2 * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._start = _LIBC.mmap(None, self._size, protection, flags, -1, 0)
        self._margin = inner - array.nbytes
        bytes_ = (ctypes.c_ubyte * inner).from_address(self._start + PAGE)
        self._bytes = np.frombuffer(bytes_, np.uint8) if inner else np.empty(0, np.uint8)
        self._bytes[: self._margin] = 255
        self._bytes[self._margin :] = array.reshape(-1).view(np.uint8)
        self.address = self._start + PAGE + self._margin
        for page in (self._start, self._start + PAGE + inner):
            _LIBC.mprotect(page, PAGE, _NO_ACCESS)

    def give_back(self) -> bool:
        """Brings the bytes back into the array; whether the margin is as it was."""
        untouched = bool(np.all(self._bytes[: self._margin] == 255))
        if self.array.flags.writeable:
            self.array.reshape(-1).view(np.uint8)[...] = self._bytes[self._margin :]
        _LIBC.munmap(self._start, self._size)
        return untouched
