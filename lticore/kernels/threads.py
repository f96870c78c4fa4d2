"""How many threads a Numba kernel takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba

#: Numbers that a kernel works through in about 0.1 ms. Where all are done before another thread has
#: woken up, two threads gain nothing, and under load the first waits for the second.
ENOUGH = 1 << 16


@contextmanager
def threads_for(many: bool) -> Iterator[None]:
    """All threads inside when there is ``many`` to do, else one; as before afterwards."""
    threads = numba.get_num_threads()
    if many or threads == 1:
        yield
        return
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(threads)
