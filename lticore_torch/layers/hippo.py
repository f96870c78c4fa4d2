"""Normal parts of the HiPPO-LegS matrix, from which S5 and S4D-Legs start."""

from __future__ import annotations

import numpy as np


def hippo_normal(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Upper half of the spectrum of the normal part of HiPPO-LegS.

        A_ij = −√(2i+1) √(2j+1) for i > j,  −(i+1) for i = j;   A + p pᵀ with p_i = √(i + ½)

    is −½ I plus a skew matrix.

    Returns
    -------
    (frequencies > 0 ascending (order/2,), unit eigenvectors (order, order/2)) of λ = −½ + i ω.

    Cost: O(order³). Source: Gu et al., S4 (2022), and Smith et al., S5, Appendix B.
    """
    index = np.arange(order)
    root = np.sqrt(2 * index + 1)
    skew = -np.tril(np.outer(root, root), -1) / 2
    # The Hermitian i (S − Sᵀ) has the eigenvalues −ω of the skew part.
    frequencies, vectors = np.linalg.eigh(-1j * (skew - skew.T))
    return frequencies[order // 2 :], vectors[:, order // 2 :]
