"""Groups of states that feed each other."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter

import numpy as np
import scipy


def groups_in_order(A: np.ndarray) -> list[np.ndarray] | None:
    """Positions of the states of each group, so that A is block upper triangular in their order:
    no group feeds one that comes after it. None for a single group.

    Cost: O(n²).
    """
    if A.all():
        return None
    count, group = scipy.sparse.csgraph.connected_components(A != 0, connection="strong")
    if count == 1:
        return None
    before: dict[int, set[int]] = {i: set() for i in range(count)}
    for i, j in zip(*np.nonzero(A), strict=True):
        if group[i] != group[j]:
            before[int(group[j])].add(int(group[i]))
    return [np.flatnonzero(group == i) for i in TopologicalSorter(before).static_order()]


def eigenvalues_of_groups(A: np.ndarray) -> np.ndarray:
    """(..., n) complex eigenvalues of an array, those of each group of states for themselves and in
    its states: of systems in series rounding does not mix them, which moves those of the whole by
    much more where they are many."""
    found = np.empty(A.shape[:-1], dtype=np.result_type(A, np.complex64))
    for index in np.ndindex(A.shape[:-2]):
        groups = groups_in_order(A[index])
        if groups is None:
            found[index] = np.linalg.eigvals(A[index])
            continue
        for states, block in diagonal_blocks(A[index], groups):
            found[index][states] = np.linalg.eigvals(block) if len(block) > 1 else block[0]
    return found


def diagonal_blocks(
    A: np.ndarray, groups: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The states of each group, and how they feed each other."""
    return ((states, A[np.ix_(states, states)]) for states in groups)


def connected_states(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> np.ndarray:
    """(n,) which states a chain of entries of A leads to from B, and from which one leads to C."""
    return _led_to(A, B) & _led_to(A.T, C.T)


def _led_to(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    entries, found = A != 0, np.any(B != 0, axis=1)
    while True:
        more = found | np.any(entries[:, found], axis=1)
        if np.array_equal(more, found):
            return found
        found = more
