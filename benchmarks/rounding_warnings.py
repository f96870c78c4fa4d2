"""Do warnings of rounding come where results are wrong, and only there? ``make bench-warnings``

Random dense systems of many kinds, in coordinates without units, have their Gramians, Hankel
singular values, h2 and h∞ norms computed with 160 digits; lticore is given them with the states in
units of 10^±decades, by powers of two, which change nothing. A result is wrong where its relative
error exceeds 1e-6: of the norm, of σ_1 for any Hankel value, or of any P_ij relative to
√(P_ii P_jj) for its Gramian.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import flint
import machine
import numpy as np
import scipy.linalg
import tyro

import lticore as lti

WRONG = 1e-6
#: Within this factor of ``WRONG`` an error counts as neither right nor wrong.
MARGIN = 10.0
#: Norms below this share of what their terms add up to are zero to rounding, and left out.
CANCELLED = 1e-12
BITS = 530
_STEPS = 30
KINDS = ("normal", "non-normal", "marginal", "cascade", "parts", "companion", "chain")
DECADES = (0, 1, 2, 3, 5, 8, 30, 70)


@dataclass(frozen=True)
class Options:
    systems: int = 10_000
    seed: int = 0
    write: bool = True


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """(A, B, C) in coordinates without units, and what kind of system it is."""
    n, m, p = int(rng.integers(2, 17)), int(rng.integers(1, 3)), int(rng.integers(1, 3))
    kind = str(rng.choice(KINDS))
    if kind == "companion":
        n = min(n, 10)
        poles = np.sqrt(rng.uniform(0.1, 0.97, n // 2)) * np.exp(1j * rng.uniform(0, 3, n // 2))
        poles = np.concatenate([poles, poles.conj(), rng.uniform(-0.9, 0.9, n % 2)])
        A = scipy.linalg.companion(np.real(np.poly(poles)))
        B, C = np.eye(n)[:, :1], rng.standard_normal((p, n))
        return (A, B, C, kind) if rng.integers(2) else (A.T.copy(), C.T.copy(), B.T.copy(), kind)
    B, C = rng.standard_normal((n, m)), rng.standard_normal((p, n))
    if kind == "chain":
        A = rng.uniform(-0.95, 0.95) * np.eye(n) * rng.integers(0, 2)
        A = A + np.diag(rng.uniform(0.3, 1.5, n - 1), -1)
        ends = rng.integers(0, 3)
        B = B * np.eye(n)[:, :1] if ends >= 1 else B
        C = C * np.eye(n)[-1:] if ends == 2 else C
        return A, B, C, kind
    radii = rng.uniform(0.2, 0.95, n // 2)
    if kind == "marginal":
        radii = 1 - 10.0 ** -rng.uniform(1, 11, n // 2)
    angles = rng.uniform(0, np.pi, n // 2)
    real = rng.uniform(-0.9, 0.9, n % 2)
    A = lti.Rotation(radii, angles, real).to_dense()
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


# --- 160 digits -------------------------------------------------------------------------------


def _exact(X: np.ndarray) -> flint.arb_mat:
    return flint.arb_mat(X.tolist())


def _rounded(X: flint.arb_mat) -> np.ndarray:
    return np.array([[float(x.mid()) for x in row] for row in X.table()])


def exact_gramian(A: np.ndarray, B: np.ndarray) -> flint.arb_mat:
    """Σ A^k B Bᵀ (Aᵀ)^k, by doubling the number of terms."""
    power, root = _exact(A), _exact(B)
    P = root * root.transpose()
    for _ in range(64):
        term = power * P * power.transpose()
        P = P + term
        if np.abs(_rounded(term)).max() <= 1e-80 * np.abs(_rounded(P)).max():
            return P
        power = power * power
    raise ArithmeticError("the series has not converged")


def exact_hankel_values(P: flint.arb_mat, Q: flint.arb_mat) -> np.ndarray:
    squares = flint.acb_mat(P * Q).eig(algorithm="approx")
    return np.sort(np.sqrt([max(float(x.real.mid()), 0) for x in squares]))[::-1]


def exact_peak(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> float:
    """The largest gain: samples in these good coordinates, and near the highest of them the exact
    1/gain², which is about quadratic at a resonance, followed to its minimum."""
    poles = np.linalg.eigvals(A)
    omega = np.unique(np.concatenate([np.linspace(0, np.pi, 401), np.abs(np.angle(poles))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        H = lti.frequency_response(lti.LTI(A, B, C), omega)
    gains = np.linalg.norm(H, 2, axis=(-2, -1))
    local = np.ones(len(gains), dtype=bool)
    local[1:] &= gains[1:] >= gains[:-1]
    local[:-1] &= gains[:-1] >= gains[1:]
    tops = np.flatnonzero(local & (gains > gains.max() / 3))
    tops = tops[np.argsort(-gains[tops])[:3]]
    return max(_climb(A, B, C, omega[k], _width(poles, omega, k)) for k in tops)


def _width(poles: np.ndarray, omega: np.ndarray, k: int) -> float:
    return min(np.abs(np.exp(1j * omega[k]) - poles).min(), np.pi / 400) / 2


def _climb(A: np.ndarray, B: np.ndarray, C: np.ndarray, omega: float, width: float) -> float:
    """The highest gain near ω, over three points that a parabola through 1/gain² moves."""
    known: dict[float, float] = {}

    def gain(x: float) -> float:
        return known.setdefault(x, exact_gain(A, B, C, x))

    for _ in range(_STEPS):
        left, middle, right = gain(omega - width), gain(omega), gain(omega + width)
        a, b, c = left**-2, middle**-2, right**-2
        bend = a - 2 * b + c
        if middle < max(left, right):
            omega += width if right > left else -width
            continue
        if bend > 0:
            found = omega + float(np.clip((a - c) / (2 * bend), -1, 1)) * width
            omega = found if gain(found) > middle else omega
        if gain(omega) <= middle * (1 + 1e-10) and max(left, right) >= middle * (1 - 1e-6):
            break
        width /= 4
    return max(known.values())


def exact_gain(A: np.ndarray, B: np.ndarray, C: np.ndarray, omega: float) -> float:
    n = len(A)
    z = flint.acb(0, omega).exp()
    pencil = flint.acb_mat(n, n, [z if i == j else 0 for i in range(n) for j in range(n)])
    X = (pencil - flint.acb_mat(_exact(A))).solve(flint.acb_mat(_exact(B)))
    H = flint.acb_mat(_exact(C)) * X
    return float(np.linalg.norm([[complex(x) for x in row] for row in H.table()], 2))


# --- verdicts ---------------------------------------------------------------------------------


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


def look_at(seed: int, number: int) -> dict[str, str] | None:
    """What became of each function for one random system."""
    rng = np.random.default_rng([seed, number])
    A, B, C, kind = draw(rng)
    if np.abs(np.linalg.eigvals(A)).max() >= 1:
        return None
    decades = float(rng.choice(DECADES))
    t = 2.0 ** np.rint(rng.uniform(-1, 1, len(A)) * decades * np.log2(10))[:, None]
    P, Q = exact_gramian(A, B), exact_gramian(A.T, C.T)
    squares = _exact(C) * P * _exact(C).transpose()
    norm = float(np.sqrt(np.trace(_rounded(squares))))
    P_rounded, sigma = _rounded(P), exact_hankel_values(P, Q)
    sizes = np.sqrt(np.diagonal(P_rounded)), np.sqrt(np.diagonal(_rounded(Q)))
    if norm <= CANCELLED * np.linalg.norm(np.abs(C) @ sizes[0]):
        return None
    if sigma[0] <= CANCELLED * np.linalg.norm(sizes[0] * sizes[1]):
        return None
    peak = exact_peak(A, B, C)
    weights = np.outer(sizes[0], sizes[0])
    weights = np.where(weights > 0, weights, np.inf)
    sys = lti.LTI(t * A / t.T, t * B, C / t.T)

    def of_gramian(X: np.ndarray) -> float:
        return float(np.max(np.abs(X / t / t.T - P_rounded) / weights))

    return {
        "kind": kind,
        "decades": str(int(decades)),
        "h2_norm": outcome(lambda: lti.h2_norm(sys), lambda x: float(abs(x / norm - 1))),
        "hinf_norm": outcome(lambda: lti.hinf_norm(sys), lambda x: float(abs(x / peak - 1))),
        "hankel_singular_values": outcome(
            lambda: lti.hankel_singular_values(sys),
            lambda x: float(np.abs(x - sigma).max() / sigma[0]),
        ),
        "controllability_gramian": outcome(lambda: lti.controllability_gramian(sys), of_gramian),
        "gramian_factors": outcome(
            lambda: lti.gramian_factors(sys, rtol=0.0)[0], lambda R: of_gramian(R @ R.T)
        ),
        "solve_stein": outcome(lambda: lti.solve_stein(sys.A, sys.B @ sys.B.T), of_gramian),
        "h2_error to itself": outcome(
            lambda: lti.h2_error(sys, lti.LTI(A, B, C)), lambda x: float(x / norm)
        ),
    }


def main(options: Options) -> None:
    flint.ctx.prec = BITS
    found = []
    for number in range(options.systems):
        one = look_at(options.seed, number)
        if one is not None:
            found.append(one)
            bad = [k for k, x in one.items() if x == "silent & wrong"]
            if bad:
                print(f"--seed {options.seed}, system {number}: {one['kind']}, silent: {bad}")
    names = [x for x in found[0] if x not in ("kind", "decades")]
    table = {name: dict(sorted(Counter(x[name] for x in found).items())) for name in names}
    by_kind = {
        name: {
            kind: dict(sorted(Counter(x[name] for x in found if x["kind"] == kind).items()))
            for kind in KINDS
        }
        for name in names
    }
    for name, counts in table.items():
        print(name, counts)
        for kind, row in by_kind[name].items():
            print("   ", kind, row)
    print(f"{len(found)} of {options.systems} systems are stable and not zero to rounding")
    if options.write:
        result = {"machine": machine.describe("numpy", "scipy", "lticore"), "systems": len(found)}
        print(machine.write("rounding_warnings", {**result, "counts": table, "by_kind": by_kind}))


if __name__ == "__main__":
    main(tyro.cli(Options))
