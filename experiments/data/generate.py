"""Generators that give the same data whatever the number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from tqdm import tqdm

Part = TypeVar("Part")


def random_stream(seed: int, *part: int) -> np.random.Generator:
    """Random numbers of one part of a data set, independent of those of all other parts."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *part])))


def in_parallel(
    draw: Callable[[int], Part], parts: Sequence[int], *, workers: int | None, label: str
) -> Iterator[Part]:
    """``draw(part)`` for every part, in order.

    Threads, because the kernels release the interpreter's lock; few parts wait at any time.
    """
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(parts), desc=label) as bar:
        rest = iter(parts)
        waiting = [pool.submit(draw, part) for part in islice(rest, 2 * workers)]
        while waiting:
            result = waiting.pop(0).result()
            waiting.extend(pool.submit(draw, part) for part in islice(rest, 1))
            bar.update()
            yield result
