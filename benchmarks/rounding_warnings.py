"""Do warnings of rounding come where results are wrong, and only there? ``make bench-warnings``

Random systems of many kinds with h2 norms and Gramians known to 2000 times the accuracy
of float64: equations are solved in the coordinates that the systems were drawn in, and refined with
residuals in extended precision (x87), then taken to the units that lticore is given. A result is
wrong where its relative error exceeds 1e-6: of the norm, or of any P_ij relative to √(P_ii P_jj).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import machine
import numpy as np
import scipy.linalg
import tyro

import lticore as lti

WRONG = 1e-6
#: Within this factor of ``WRONG`` an error counts as neither right nor wrong.
MARGIN = 10.0
LONG = np.longdouble


@dataclass(frozen=True)
class Options:
    systems: int = 10_000
    seed: int = 0
    write: bool = True


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """(A, B, C) in coordinates without units, and what kind of system it is."""
    n, m, p = int(rng.integers(2, 31)), int(rng.integers(1, 3)), int(rng.integers(1, 3))
    kind = str(rng.choice(["normal", "non-normal", "marginal", "cascade", "parts", "companion"]))
    if kind == "companion":
        n = min(n, 8)
        poles = np.sqrt(rng.uniform(0.1, 0.9, n // 2)) * np.exp(1j * rng.uniform(0, 3, n // 2))
        poles = np.concatenate([poles, poles.conj(), rng.uniform(-0.9, 0.9, n % 2)])
        A = scipy.linalg.companion(np.real(np.poly(poles)))
        B, C = np.eye(n)[:, :1], rng.standard_normal((p, n))
        return A, B, C, kind
    radii = rng.uniform(0.2, 0.95, n // 2)
    if kind == "marginal":
        radii = 1 - 10.0 ** -rng.uniform(1, 11, n // 2)
    angles = rng.uniform(0, np.pi, n // 2)
    real = rng.uniform(-0.9, 0.9, n % 2)
    A = lti.Rotation(radii, angles, real).to_dense()
    B, C = rng.standard_normal((n, m)), rng.standard_normal((p, n))
    if kind == "non-normal":
        A = A + np.triu(rng.standard_normal((n, n)), 2) * 10.0 ** rng.uniform(-2, 0.5)
    if kind in ("cascade", "parts"):
        # Groups of states, turned inside, of which the next is fed by the one before, or not.
        groups = np.array_split(np.arange(n), max(1, n // 4))
        for k, group in enumerate(groups):
            Q = _orthogonal(rng, len(group))
            A[np.ix_(group, group)] = Q @ (A[np.ix_(group, group)] * 0.9) @ Q.T
            if kind == "cascade" and k:
                before = groups[k - 1]
                A[np.ix_(group, before)] = rng.standard_normal((len(group), len(before)))
                A[np.ix_(group, before)] *= 10.0 ** -rng.uniform(0, 8)
                B[group] = 0
        if kind == "parts":
            B[groups[0]] *= rng.integers(0, 2)
        order = rng.permutation(n)
        return A[np.ix_(order, order)], B[order], C[:, order], kind
    Q = _orthogonal(rng, n)
    return Q @ A @ Q.T, Q @ B, C @ Q.T, kind


def _orthogonal(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def exact_gramian(A: np.ndarray, B: np.ndarray) -> np.ndarray | None:
    """P in extended precision, or None where refinement does not converge."""
    T, U = scipy.linalg.schur(A, output="complex")
    A_long, B_long = A.astype(LONG), B.astype(LONG)
    P = np.zeros(A.shape, LONG)
    last = np.inf
    for _ in range(40):
        residual = A_long @ P @ A_long.T - P + B_long @ B_long.T
        size = np.abs(residual).max()
        if size == 0:
            return P
        step = _solve(T, U, (residual / size).astype(np.float64)) * size
        change = np.abs(step).max()
        if not change < 0.5 * last:
            return P if change < 1e-9 * np.abs(P).max() else None
        P, last = P + step, change
    return P


def _solve(T: np.ndarray, U: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """T Y Tᴴ − Y + Uᴴ Q U = 0 column by column, the last first."""
    n, F = len(T), U.conj().T @ Q @ U
    Y = np.zeros((n, n), complex)
    for j in range(n - 1, -1, -1):
        right = F[:, j] + T @ (Y[:, j + 1 :] @ T[j, j + 1 :].conj())
        Y[:, j] = scipy.linalg.solve_triangular(np.eye(n) - T[j, j].conj() * T, right)
    return np.real(U @ Y @ U.conj().T)


def outcome(function: Callable[[], np.ndarray], error: Callable[[np.ndarray], float]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = function()
        except (lti.UnstableSystemError, lti.SingularEquationError):
            return "refused"
    warned = any(issubclass(w.category, lti.PrecisionWarning) for w in caught)
    wrong = error(found)
    if WRONG / MARGIN < wrong < WRONG * MARGIN:
        level = "near the limit"
    else:
        level = "right" if wrong < WRONG else "wrong"
    return f"{'warned' if warned else 'silent'} & {level}"


def look_at(rng: np.random.Generator) -> dict[str, str] | None:
    """What became of each function for one random system."""
    A, B, C, kind = draw(rng)
    if np.abs(np.linalg.eigvals(A)).max() >= 1:
        return None
    P = exact_gramian(A, B)
    if P is None:
        return None
    square = np.sum((C.astype(LONG) @ P) * C)
    root = np.sqrt(np.maximum(np.diagonal(P), 0))
    if not square > 0:
        return None
    decades = float(rng.choice([0, 1, 2, 3, 5, 8]))
    t = 2.0 ** np.rint(rng.uniform(-1, 1, len(A)) * decades * np.log2(10))[:, None]
    sys = lti.LTI(t * A / t.T, t * B, C / t.T)
    # States that are hardly reached are not known well enough by extended precision either.
    root = np.where(root > 1e-4 * root.max(), root, np.inf)
    weights = root[:, None] * root
    exact = np.sqrt(square)
    return {
        "kind": kind,
        "decades": str(int(decades)),
        "h2_norm": outcome(lambda: lti.h2_norm(sys), lambda x: float(abs(x / exact - 1))),
        "controllability_gramian": outcome(
            lambda: lti.controllability_gramian(sys),
            lambda X: float(np.max(np.abs(X / t / t.T - P) / weights)),
        ),
        "solve_stein": outcome(
            lambda: lti.solve_stein(sys.A, sys.B @ sys.B.T),
            lambda X: float(np.max(np.abs(X / t / t.T - P) / weights)),
        ),
        "h2_error to itself": outcome(
            lambda: lti.h2_error(sys, lti.LTI(A, B, C)), lambda x: float(x / exact)
        ),
    }


def main(options: Options) -> None:
    rng = np.random.default_rng(options.seed)
    found = [x for x in (look_at(rng) for _ in range(options.systems)) if x is not None]
    names = [x for x in found[0] if x not in ("kind", "decades")]
    table = {name: dict(sorted(Counter(x[name] for x in found).items())) for name in names}
    by_kind = {
        name: {
            kind: dict(sorted(Counter(x[name] for x in found if x["kind"] == kind).items()))
            for kind in sorted({x["kind"] for x in found})
        }
        for name in names
    }
    for name, counts in table.items():
        print(name, counts)
        for kind, row in by_kind[name].items():
            print("   ", kind, row)
    print(f"{len(found)} of {options.systems} systems are stable and known well enough")
    if options.write:
        result = {"machine": machine.describe("numpy", "scipy", "lticore"), "systems": len(found)}
        print(machine.write("rounding_warnings", {**result, "counts": table, "by_kind": by_kind}))


if __name__ == "__main__":
    main(tyro.cli(Options))
