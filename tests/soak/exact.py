"""Systems in 120 digits: the given arrays are exact, and so is, for all purposes, what follows.

Systems in continuous time have a twin in discrete time (Cayley) with the same Gramians and gains.

Results are object arrays of ball numbers whose radii were dropped: floating point of 400 bits, with
exponents of any size. The balls would grow with each of the up to 63 squarings of a doubling, the
rounding errors do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from flint import acb, acb_mat, arb, ctx

BITS = 400
ctx.prec = BITS
ZERO = arb(0)
#: Local maxima of sampled gains that are followed.
_TOPS = 6


def number(x):
    if isinstance(x, acb | arb):
        return acb(x)
    return acb(float(x.real), float(x.imag)) if np.iscomplexobj(x) else acb(float(x))


def matrix(X):
    """A matrix of numbers of any kind, as given."""
    X = np.asarray(X)
    return acb_mat(*X.shape, [number(x) for x in X.ravel()])


def array(X):
    """(rows, columns) object array of a matrix."""
    out = np.empty((X.nrows(), X.ncols()), dtype=object)
    out.ravel()[:] = [x.mid() for x in X.entries()]
    return out


def adjoint(X):
    return X.transpose().conjugate()


def absolute(X):
    """|X| entrywise, for arrays of numbers."""
    out = np.empty(np.shape(X), dtype=object)
    out.ravel()[:] = [abs(number(x)).mid() for x in np.asarray(X).ravel()]
    return out


def largest(values):
    top = ZERO
    for x in values:
        if x > top:
            top = x
    return top


def frobenius(X):
    """‖X‖_F of an array or matrix."""
    values = X.entries() if isinstance(X, acb_mat) else np.asarray(X).ravel()
    return sum((abs(number(x)) ** 2 for x in values), ZERO).sqrt().mid()


def spectral_norm(X):
    """‖X‖₂ of a small array, to 15 digits, whatever its size."""
    unit = largest(absolute(X).ravel())
    if not unit > 0:
        return ZERO
    scaled = [[complex(x / unit) for x in row] for row in X]
    return unit * float(np.linalg.norm(np.array(scaled), 2))


def solve_stein(A, Q, B, rate):
    """Σ A^k Q (Bᴴ)^k by squaring, for |λ(A) λ(B)| ≤ rate < 1."""
    gap = max(float(-arb(rate).log()), 1e-300) if rate > 0 else 1e3
    # Chains of equal poles decay like k^n rate^k.
    X, size = Q, max(A.nrows(), B.nrows())
    steps = (BITS + 64 * size) * math.log(2) / gap + size
    for _ in range(max(1, math.ceil(math.log2(steps)))):
        X = (X + A * X * adjoint(B)).mid()
        A, B = (A * A).mid(), (B * B).mid()
    return X


def solve_stein_by_kronecker(A, Q, B):
    """The solution of A X Bᴴ − X + Q = 0 for any A and B."""
    n, l = Q.nrows(), Q.ncols()
    a, b = A.tolist(), B.tolist()
    K = acb_mat(n * l, n * l)
    for i, j, k, h in np.ndindex(n, l, n, l):
        same = 1 if (i, j) == (k, h) else 0
        K[i * l + j, k * l + h] = same - a[i][k] * b[j][h].conjugate()
    x = K.solve(acb_mat(n * l, 1, Q.entries()), algorithm="approx")
    return acb_mat(n, l, x.entries()).mid()


def finite_sum(A, Q, B, horizon):
    """Σ_{k<T} A^k Q (Bᴴ)^k, term by term."""
    term, total = Q, acb_mat(Q.nrows(), Q.ncols())
    for _ in range(horizon):
        total = (total + term).mid()
        term = (A * term * adjoint(B)).mid()
    return total


def solve_sylvester(A, Q, B):
    """The solution of A X + X Bᴴ + Q = 0 for any A and B."""
    n, l = Q.nrows(), Q.ncols()
    a, b = A.tolist(), B.tolist()
    K = acb_mat(n * l, n * l)
    for i, j in np.ndindex(n, l):
        for k in range(n):
            K[i * l + j, k * l + j] += a[i][k]
        for h in range(l):
            K[i * l + j, i * l + h] += b[j][h].conjugate()
    x = K.solve(acb_mat(n * l, 1, (-Q).entries()), algorithm="approx")
    return acb_mat(n, l, x.entries()).mid()


def integral(A, Q, B, duration):
    """∫_0^T e^{At} Q e^{Bᴴt} dt: over a short time from one exponential (Van Loan), doubled."""
    n, l = Q.nrows(), Q.ncols()
    # Q as large as the exponentials beside it, which have 400 bits together.
    size = frobenius(Q)
    if not size > 0:
        return Q
    Q = Q * (1 / size)
    speed = frobenius(A) + frobenius(B)
    doublings = max(0, math.ceil(float((speed * duration + 1e-300).log() / math.log(2))))
    step = arb(duration) / arb(2) ** doublings
    whole = acb_mat(n + l, n + l)
    H = adjoint(B)
    for X, row, column in ((A, 0, 0), (Q, 0, n), (-H, n, n)):
        for i, j in np.ndindex(X.nrows(), X.ncols()):
            whole[row + i, column + j] = X[i, j] * step
    E = whole.exp().mid()
    left = acb_mat(n, n, [E[i, j] for i, j in np.ndindex(n, n)])
    right = (H * step).exp().mid()
    X = (acb_mat(n, l, [E[i, n + j] for i, j in np.ndindex(n, l)]) * right).mid()
    for _ in range(doublings):
        X = (X + left * X * right).mid()
        left, right = (left * left).mid(), (right * right).mid()
    return X * size


def logarithm(X):
    """log X for eigenvalues off the negative axis: square roots (Denman & Beavers, with products)
    until X is next to 1, and 2 artanh((X − 1)/(X + 1))."""
    eye, roots_taken = identity(X.nrows()), 0
    while frobenius(X - eye) > 2.0**-16:
        M, X = X, X
        for _ in range(200):
            inverse = M.inv().mid()
            X = (X * (eye + inverse) * acb(0.5)).mid()
            M = ((eye + (M + inverse) * acb(0.5)) * acb(0.5)).mid()
            if frobenius(M - eye) < 2.0 ** (60 - BITS):
                break
        roots_taken += 1
    quotient = ((X - eye) * (X + eye).inv()).mid()
    square, power, total = (quotient * quotient).mid(), quotient, quotient
    for k in range(3, 2 * BITS // 32 + 3, 2):
        power = (power * square).mid()
        total = (total + power * (acb(1) / k)).mid()
    return (total * (acb(2) ** (roots_taken + 1))).mid()


def identity(n):
    eye = acb_mat(n, n)
    for i in range(n):
        eye[i, i] = 1
    return eye


def eigenvalues(A):
    if A.nrows() == 0:
        return []
    return [x.mid() for x in A.eig(algorithm="approx")]


@dataclass(frozen=True, eq=False)
class Exact:
    """One system. ``poles`` are known for structured ones; ``unit`` are binary exponents: in the
    states 2^−unit x it has numbers of moderate size. In continuous time 2^``speed`` is the size of
    A then; in discrete time it is None."""

    A: acb_mat
    B: acb_mat
    C: acb_mat
    D: acb_mat
    unit: tuple
    poles: tuple | None = None
    #: How many rotation blocks there are, whose two states are scaled as one.
    blocks: int = 0
    speed: int | None = None

    @property
    def continuous(self):
        return self.speed is not None

    @property
    def order(self):
        return self.A.nrows()

    @cached_property
    def spectrum(self):
        return list(self.poles) if self.poles is not None else eigenvalues(self.moderate[0])

    @cached_property
    def radius(self):
        return largest(abs(x).mid() for x in self.spectrum)

    @cached_property
    def rate(self):
        """The unit of time: 2^speed, in discrete time 1."""
        return arb(2) ** (self.speed or 0)

    @cached_property
    def gap(self):
        """The distance of the poles from the boundary of stable ones, in that unit."""
        if not self.continuous:
            return (1 - self.radius).mid()
        if not self.spectrum:
            return arb(1)
        return (-max((x.real.mid() for x in self.spectrum), key=_order) / self.rate).mid()

    @property
    def stable(self):
        return self.gap > 0

    @cached_property
    def circle(self):
        """The system of discrete time with the same Gramians, in moderate states, and the same
        gains: with M = (α − A)⁻¹ (M (α + A), √(2α) M B, √(2α) C M, D + C M B)."""
        if not self.continuous:
            return self
        A, B, C = self.moderate
        eye, root = identity(self.order), acb((2 * self.rate).sqrt())
        M = (eye * self.rate - A).inv().mid()
        poles = tuple(((self.rate + x) / (self.rate - x)).mid() for x in self.spectrum)
        parts = M * (eye * self.rate + A), M * B * root, C * M * root, self.D + C * M * B
        return Exact(*(X.mid() for X in parts), (0,) * self.order, poles, self.blocks)

    def point(self, theta):
        """e^{iθ}, in continuous time the iω that the twin's e^{iθ} stands for."""
        theta = number(theta).real
        if not self.continuous:
            return acb(0, theta).exp()
        return acb(0, self.rate * (theta / 2).tan())

    def phase_of(self, z):
        """The θ of :meth:`point`."""
        return 2 * (z.imag / self.rate).atan() if self.continuous else z.arg()

    @property
    def constant(self):
        """The z of constant signals."""
        return acb(0 if self.continuous else 1)

    def in_rows(self, X):
        """Rows of moderate states in the given ones."""
        Y = acb_mat(X)
        for i, j in np.ndindex(X.nrows(), X.ncols()):
            Y[i, j] = X[i, j] * acb(2) ** self.unit[i]
        return Y

    def in_given_states(self, X, sign):
        """A matrix of moderate states in the given ones, or, for −1, one that is observed."""
        to = replace(self, unit=tuple(sign * e for e in self.unit))
        return to.in_rows(to.in_rows(X).transpose()).transpose()

    @cached_property
    def moderate(self):
        """(A, B, C) in the moderate states."""
        up = [acb(2) ** int(e) for e in self.unit]
        T, back = acb_mat(self.order, self.order), acb_mat(self.order, self.order)
        for i, x in enumerate(up):
            T[i, i], back[i, i] = x, 1 / x
        return back * self.A * T, back * self.B, self.C * T

    # --- Gramians and Hankel singular values

    @cached_property
    def P(self):
        if self.continuous:
            return self.in_given_states(self.circle.P, 1)
        return solve_stein(self.A, self.B * adjoint(self.B), self.A, self.radius**2)

    @cached_property
    def Q(self):
        if self.continuous:
            return self.in_given_states(self.circle.Q, -1)
        A, C = adjoint(self.A), self.C
        return solve_stein(A, adjoint(C) * C, A, self.radius**2)

    def gramians_over(self, horizon):
        if self.continuous:
            A, B, C = self.moderate
            H = adjoint(A)
            P = integral(A, B * adjoint(B), A, horizon)
            Q = integral(H, adjoint(C) * C, H, horizon)
            return self.in_given_states(P, 1), self.in_given_states(Q, -1)
        A, B, C = self.A, self.B, self.C
        H = adjoint(A)
        return finite_sum(A, B * adjoint(B), A, horizon), finite_sum(H, adjoint(C) * C, H, horizon)

    @cached_property
    def scale(self):
        return balancing_scale(self.P, self.Q, self.unit, self.blocks)

    @cached_property
    def hankel_values(self):
        return hankel_values(self.P, self.Q, self.scale)

    @cached_property
    def sizes(self):
        return balanced_sizes(self.P, self.Q, self.scale)

    # --- norms and responses

    @cached_property
    def squared_h2(self):
        """tr C P Cᴴ + ‖D‖²."""
        own = self.C * self.P * adjoint(self.C)
        return (own.trace().real + frobenius(self.D) ** 2).mid()

    def squared_h2_over(self, horizon):
        own = self.C * self.gramians_over(horizon)[0] * adjoint(self.C)
        return (own.trace().real + frobenius(self.D) ** 2).mid()

    def transfer(self, z):
        """H(z) as an array."""
        # In moderate states: elimination loses what is 2^−400 of its neighbours.
        A, B, C = self.moderate
        if self.order == 0:
            return array(self.D)
        pencil = -A
        for i in range(self.order):
            pencil[i, i] = pencil[i, i] + z
        return array(C * pencil.solve(B, algorithm="approx").mid() + self.D)

    def response(self, omega):
        return self.transfer(acb(0, number(omega).real).exp())

    def gain(self, omega):
        return spectral_norm(self.response(omega))

    @cached_property
    def peak(self):
        """(θ, gain) of the largest gain found: at poles, beside them, and between; of the twin."""
        return self._peak if not self.continuous else self.circle.peak

    @cached_property
    def _peak(self):
        omega = list(np.linspace(-math.pi, math.pi, 33))
        for pole in self.spectrum:
            phase = pole.arg().mid() if abs(pole) > 0 else ZERO
            width = max(float(abs(1 - abs(pole))), 1e-300)
            omega += [phase, *(phase + s * width for s in (-1, 1, -0.3, 0.3) if width < 1)]
            # What a narrow mode adds to others, or takes, ends at some multiple of its width.
            decades = max(0, math.ceil(math.log10(0.1 / width)))
            omega += [phase + s * 10.0**k * width for k in range(1, decades) for s in (-1, 1)]
        # Each once: several poles at 0 have one phase.
        once = {arb(w).mid().str(60, radius=False): arb(w).mid() for w in omega}
        found = [(self.gain(w), w) for w in sorted(once.values())]
        best = max(found, key=lambda x: x[0])
        # Neighbours of the highest gain say nothing of other peaks: from local maxima only.
        pairs = zip(found, found[-1:] + found[:-1], found[1:] + found[:1], strict=True)
        tops = [one for one, left, right in pairs if not (left[0] > one[0] or right[0] > one[0])]
        near = min((abs(float(abs(1 - abs(x)))) for x in self.spectrum if abs(x) > 0), default=1.0)
        # A broad peak may stand beside poles as near to the circle as one likes.
        steps = (0.1, *([2 * near] if near < 0.05 else []))
        for _, start in sorted(tops, key=lambda x: x[0], reverse=True)[:_TOPS]:
            found = [self._climb(start, step) for step in steps]
            best = max(best, *found, key=lambda x: x[0])
        return best[1], best[0]

    def _climb(self, omega, step, shrinking=24):
        top = self.gain(omega)
        for _ in range(shrinking):
            for side in (-1, 1):
                other = omega + side * step
                value = self.gain(other)
                if value > top:
                    omega, top = other, value
                    break
            else:
                step /= 3
        return top, omega

    def gain_near(self, omega):
        """The largest gain close to a phase where a nearby system has its peak."""
        if self.continuous:
            return self.circle.gain_near(omega)
        return self._climb(omega, 1e-25, shrinking=1)[0]

    def markov(self, steps):
        terms, X = [array(self.D)], self.B
        for _ in range(steps - 1):
            terms.append(array(self.C * X))
            X = (self.A * X).mid()
        return np.stack(terms)

    def impulse(self, times):
        """C e^{At} B at the times."""
        A, B, C = self.moderate
        return np.stack([array(C * (A * acb(float(t))).exp().mid() * B) for t in times])

    def driven_alike(self):
        """The units in which inputs move the states by about 1."""
        size = largest(abs(x).mid() for x in self.moderate[1].entries())
        level = round(float((size.log() / math.log(2)).mid())) if size > 0 else 0
        return tuple(e + level for e in self.unit)

    def minus(self, other):
        """The error system."""
        n, r = self.order, other.order
        A = acb_mat(n + r, n + r)
        B, C = acb_mat(n + r, self.B.ncols()), acb_mat(self.C.nrows(), n + r)
        for X, Y, row, column in (
            (A, self.A, 0, 0),
            (A, other.A, n, n),
            (B, self.B, 0, 0),
            (B, other.B, n, 0),
            (C, self.C, 0, 0),
            (C, -other.C, 0, n),
        ):
            for i, j in np.ndindex(Y.nrows(), Y.ncols()):
                X[row + i, column + j] = Y[i, j]
        poles = (*self.spectrum, *other.spectrum)
        speed = max(self.speed, other.speed) if self.continuous else None
        return Exact(
            A,
            B,
            C,
            self.D - other.D,
            (*self.driven_alike(), *other.driven_alike()),
            poles,
            0,
            speed,
        )

    def with_outputs(self, C, D):
        return replace(self, C=C, D=D)


def diagonal(X):
    return [X[i, i] for i in range(X.nrows())]


def balancing_scale(P, Q, unit, blocks):
    """t with diag(t P t) = diag(Q/t²) where both are positive, for blocks on the average."""
    p, q = ([x.real for x in diagonal(X)] for X in (P, Q))
    for x in (p, q):
        for i in range(0, 2 * blocks, 2):
            x[i] = x[i + 1] = (x[i] + x[i + 1]).mid()
    # States that only one of both sees count as much as the largest of the others.
    level = largest((x * y).sqrt().mid() for x, y in zip(p, q, strict=True) if x > 0 and y > 0)
    return [_balancing_one(x, y, level, int(e)) for x, y, e in zip(p, q, unit, strict=True)]


def _balancing_one(p, q, level, unit):
    if p > 0 and q > 0:
        return (q / p).root(4).mid()
    if level > 0 and (p > 0 or q > 0):
        return ((level / p) if p > 0 else (q / level)).sqrt().mid()
    return arb(2) ** -unit


def balanced_sizes(P, Q, scale):
    """‖R‖‖S‖ = √(tr P tr Q) in balanced states."""
    p = sum((x.real * t**2 for x, t in zip(diagonal(P), scale, strict=True)), ZERO)
    q = sum((x.real / t**2 for x, t in zip(diagonal(Q), scale, strict=True)), ZERO)
    return (p * q).sqrt().mid()


def hankel_values(P, Q, scale):
    """√eig(P Q), descending."""
    n = P.nrows()
    P, Q = acb_mat(P), acb_mat(Q)
    for i, j in np.ndindex(n, n):
        P[i, j] = P[i, j] * scale[i] * scale[j]
        Q[i, j] = Q[i, j] / scale[i] / scale[j]
    # To size 1 each, which the eigenvalues are then found relative to.
    sizes = [largest(abs(x).mid() for x in X.entries()) for X in (P, Q)]
    if not (sizes[0] > 0 and sizes[1] > 0):
        return [ZERO] * n
    squares = eigenvalues(((P * (1 / sizes[0])) * (Q * (1 / sizes[1]))).mid())
    root = (sizes[0] * sizes[1]).sqrt()
    return sorted(((abs(x).sqrt() * root).mid() for x in squares), key=_order, reverse=True)


def _order(x):
    return x.mid()
