"""Numba kernels that take threads where that pays and where it can be done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba

from .processes import is_forked

#: Numbers that a kernel works through in about 0.1 ms. Where all are done before another thread has
#: woken up, two threads gain nothing, and under load the first waits for the second.
ENOUGH = 1 << 16

#: Held by the kernel that runs in parallel. Not every threading layer of Numba can run two, and
#: two would take each other's cores.
_taken = threading.Lock()


def threaded(**options: Any) -> Callable[[Any], Callable[..., Any]]:
    """A decorator: ``numba.njit(**options)`` once for one thread and once for several.

    The kernel that it returns takes a keyword ``many``, whether there is enough to do for several
    threads. They are used then, unless this process is the child of a fork, another parallel kernel
    is running, or :func:`lticore.kernels.one_thread`. Either version is compiled when it is first
    needed.
    """

    def decorate(function: Any) -> Callable[..., Any]:
        parallel = numba.njit(cache=True, nogil=True, parallel=True, **options)(function)
        serial = numba.njit(cache=True, nogil=True, **options)(_renamed(function))

        def kernel(*arguments: Any, many: bool) -> Any:
            if many and threads() > 1 and _taken.acquire(blocking=False):
                try:
                    return parallel(*arguments)
                finally:
                    _taken.release()
            return serial(*arguments)

        return kernel

    return decorate


def _renamed(function: Any) -> FunctionType:
    """The same function under another name: Numba keeps compiled code by name, not by option."""
    twin = FunctionType(function.__code__, function.__globals__)
    twin.__name__ = f"{function.__name__}_serial"
    twin.__qualname__ = f"{function.__qualname__}_serial"
    twin.__module__ = function.__module__
    return twin


def threads() -> int:
    """How many threads a kernel may take."""
    # Numba starts its threads when it is asked how many there are.
    return 1 if is_forked() else numba.get_num_threads()
