"""What `lticore.kernels.gpu` calls of cuBLAS, on addresses of NumPy's memory."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np


def _stack(address, dtype, rows, columns, leading, stride, count):
    """Matrices of columns one after the other, ``leading`` apart, as (count, rows, columns)."""
    assert leading >= rows
    size = stride * (count - 1) + leading * (columns - 1) + rows
    bytes_ = (ctypes.c_ubyte * (size * dtype.itemsize)).from_address(address)
    strides = [dtype.itemsize * x for x in (stride, 1, leading)]
    numbers = np.frombuffer(bytes_, dtype)
    return np.lib.stride_tricks.as_strided(numbers, (count, rows, columns), strides)


def _gemm(dtype, launched):
    """C ← alpha op(A) op(B) + beta C; op is the transpose where told so."""
    dtype = np.dtype(dtype)

    def run(_, trans_a, trans_b, m, n, k, alpha, A, lda, skip_a, B, ldb, skip_b, beta, C, ldc, skip_c, count):  # fmt: skip # noqa: E501
        numbers = (trans_a, trans_b, m, n, k, alpha, A, lda, skip_a, B, ldb, skip_b, beta, C, ldc)
        assert all(type(x) is int for x in (*numbers, skip_c, count))
        launched()
        factors = [np.frombuffer((ctypes.c_ubyte * dtype.itemsize).from_address(x), dtype)[0] for x in (alpha, beta)]  # fmt: skip # noqa: E501
        a = _stack(A, dtype, *((k, m) if trans_a else (m, k)), lda, skip_a, count)
        b = _stack(B, dtype, *((n, k) if trans_b else (k, n)), ldb, skip_b, count)
        c = _stack(C, dtype, m, n, ldc, skip_c, count)
        product = (a.swapaxes(1, 2) if trans_a else a) @ (b.swapaxes(1, 2) if trans_b else b)
        # What stands in C is not looked at where it does not count.
        c[...] = factors[0] * product + (factors[1] * c if factors[1] else 0)

    return run


def cublas(launched=lambda: None):
    """The module; ``launched`` is called at every call."""
    return SimpleNamespace(
        dgemmStridedBatched=_gemm(np.float64, launched),
        zgemmStridedBatched=_gemm(np.complex128, launched),
    )
