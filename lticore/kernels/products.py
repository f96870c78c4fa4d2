"""Who multiplies matrices on a device: CuPy, or inside `products_by` another library.

CuPy refuses to call cuBLAS while a CUDA graph is captured (14.2); torch, which captures, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: X, Y → X Y for arrays of CuPy.
Product = Callable[[Any, Any], Any]
MULTIPLY: ContextVar[Product | None] = ContextVar("MULTIPLY", default=None)


@contextmanager
def products_by(multiply: Product) -> Iterator[None]:
    token = MULTIPLY.set(multiply)
    try:
        yield
    finally:
        MULTIPLY.reset(token)
