"""Random systems, hard ones among them, and the same systems in 120 digits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from flint import acb, acb_mat, arb

import lticore as lti

from .exact import Exact, absolute, array, largest, matrix, number

STRUCTURES = (
    "real diagonal",
    "complex diagonal",
    "rotation",
    "rotation with real poles",
    "dense",
    "complex dense",
    "non-normal",
    "Jordan",
    "companion",
    "shift register",
)
SPECTRA = (
    "plain",
    "marginal",
    "edge",
    "repeated",
    "clustered",
    "zero",
    "tiny",
    "negative",
    "mixed",
    "outside",
)
COUPLINGS = ("full", "full", "full", "non-minimal", "graded", "no inputs", "no outputs", "sparse")
UNITS = ("none", "none", "none", "signals", "states", "both", "extreme")
SMALLEST_ORDER = 0
#: Perturbations of this size give first derivatives, far above the rounding of 400 bits.
STEP = arb(2) ** -100


@dataclass(frozen=True)
class Recipe:
    structure: str
    spectrum: str
    coupling: str
    units: str
    batch: tuple
    order: int
    inputs: int
    outputs: int
    dtype: str
    feedthrough: bool
    #: log2 of the speed of a system in continuous time; None in discrete time.
    speed: int | None


def draw_recipe(rng, largest=12):
    order = int(rng.integers(SMALLEST_ORDER, 1 + rng.choice([3, 6, largest], p=[0.4, 0.4, 0.2])))
    if rng.uniform() < 0.003 and largest >= 12:
        order = 40
    batch = ((), (3,), (2, 2))[rng.choice(3, p=[0.84, 0.1, 0.06])]
    speed = int(rng.choice([0, 0, 1, -1, 7, -30, 30])) if rng.uniform() < 0.4 else None
    return Recipe(
        structure=str(rng.choice(STRUCTURES)),
        spectrum=str(rng.choice(SPECTRA)),
        coupling=str(rng.choice(COUPLINGS)),
        units=str(rng.choice(UNITS)),
        batch=() if order > 12 else batch,
        order=order,
        inputs=int(rng.integers(1, 4)),
        outputs=int(rng.integers(1, 4)),
        dtype=str(rng.choice(["float64", "float64", "float64", "float32"])),
        feedthrough=bool(rng.uniform() < 0.4),
        speed=speed,
    )


@dataclass(frozen=True, eq=False)
class Draw:
    """A system and the binary exponents of its states' units: (..., n)."""

    recipe: Recipe
    sys: lti.LTI
    unit: np.ndarray

    @property
    def single(self):
        return self.recipe.dtype == "float32"

    @cached_property
    def entries(self):
        """One `Given` per batch entry."""
        return [
            Given.of(self.sys, index, self.unit[index], seed)
            for seed, index in enumerate(np.ndindex(self.sys.batch_shape))
        ]


# --- spectra ----------------------------------------------------------------------------------


def _decays(rng, spectrum, n):
    """Of modes in continuous time: distances from the boundary, of several speeds."""
    if spectrum == "tiny":
        return 10.0 ** rng.uniform(-2, 15, n)
    decays = 1 - _radii(rng, spectrum, n)
    if spectrum in ("plain", "mixed", "marginal") and rng.uniform() < 0.5:
        decays = decays * 10.0 ** rng.uniform(-2, 2, n)
    return decays


def _radii(rng, spectrum, n):
    one = rng.uniform(0.2, 0.95)
    if spectrum == "marginal":
        return 1 - 10.0 ** -rng.uniform(1, 8, n)
    if spectrum == "edge":
        return np.minimum(1 - 10.0 ** -rng.uniform(8, 16, n), np.nextafter(1, 0))
    if spectrum == "repeated":
        return np.full(n, one)
    if spectrum == "clustered":
        return one + 10.0 ** -rng.uniform(4, 15) * rng.uniform(size=n)
    if spectrum == "tiny":
        return 10.0 ** -rng.uniform(0.1, 200, n)
    radii = rng.uniform(0.05, 0.97, n)
    if spectrum == "zero":
        radii[rng.uniform(size=n) < 0.6] = 0
    if spectrum == "mixed":
        pieces = [_radii(rng, str(rng.choice(SPECTRA[:7])), n) for _ in range(3)]
        radii = np.choose(rng.integers(0, 3, n), pieces)
    if spectrum == "outside" and n:
        radii[0] = rng.choice([1.0, 1.0 + 1e-15, 1.02])
    return radii


def _phases(rng, spectrum, n):
    if spectrum == "negative":
        return np.full(n, math.pi)
    one = rng.uniform(0.1, 3)
    if spectrum == "repeated":
        return np.full(n, one)
    if spectrum == "clustered":
        return one + 10.0 ** -rng.uniform(4, 15) * rng.uniform(size=n)
    phases = rng.uniform(-math.pi, math.pi, n)
    phases[rng.uniform(size=n) < 0.1] = 0
    return phases


def _signed(rng, spectrum, n):
    radii = _radii(rng, spectrum, n)
    if spectrum == "negative":
        return -radii
    return radii if spectrum == "repeated" else radii * rng.choice([-1, 1], n)


def _unitary(rng, n, complex_=False):
    X = rng.standard_normal((n, n))
    if complex_:
        X = X + 1j * rng.standard_normal((n, n))
    return np.linalg.qr(X)[0]


def _poles(rng, spectrum, n, continuous):
    """(radius, angle), or (decay, frequency) in continuous time."""
    return (_decays if continuous else _radii)(rng, spectrum, n), _phases(rng, spectrum, n)


def _real_poles(rng, spectrum, n, continuous):
    return -_decays(rng, spectrum, n) if continuous else _signed(rng, spectrum, n)


def _parameters(rng, structure, spectrum, n, continuous):
    """The arrays of one state matrix."""
    if structure == "real diagonal":
        return (_real_poles(rng, spectrum, n, continuous),)
    if structure == "complex diagonal":
        size, phase = _poles(rng, spectrum, n, continuous)
        return (1j * phase - size if continuous else size * np.exp(1j * phase),)
    if structure.startswith("rotation"):
        q = n // 2 if "real" in structure else max(n // 2, min(n, 1))
        k = n - 2 * q if "real" in structure else 0
        pairs = _poles(rng, spectrum, q, continuous)
        return *pairs, _real_poles(rng, spectrum, k, continuous)
    if structure == "dense":
        blocks = _parameters(rng, "rotation with real poles", spectrum, n, continuous)
        A = state_matrix("rotation", blocks, continuous).to_dense()
        U = _unitary(rng, n)
        return (U @ A @ U.T,)
    if structure == "complex dense":
        (poles,) = _parameters(rng, "complex diagonal", spectrum, n, continuous)
        U = _unitary(rng, n, complex_=True)
        return ((U * poles) @ U.conj().T,)
    if structure == "non-normal":
        T = np.triu(rng.standard_normal((n, n)), 1) * rng.choice([0.1, 1, 10])
        U = _unitary(rng, n)
        return (U @ (T + np.diag(0.8 * _real_poles(rng, spectrum, n, continuous))) @ U.T,)
    if structure == "Jordan":
        A = np.diag(_real_poles(rng, spectrum, n, continuous))
        A = A + np.eye(n, k=1) * rng.choice([0.01, 0.3, 1])
        U = _unitary(rng, n) if rng.uniform() < 0.5 else np.eye(n)
        return (U @ A @ U.T,)
    if structure == "companion":
        (A,) = _parameters(rng, "dense", spectrum, n, continuous)
        return (np.vstack([-np.poly(A)[1:].real[None], np.eye(n)[: n - 1]]),) if n else (A,)
    chain = np.eye(n, k=-1) * rng.uniform(0.5, 1.5)
    return (chain - np.eye(n) * rng.uniform(0.5, 1.5) if continuous else chain,)


def build(rng, recipe):
    """A system of the recipe whose numbers exist in its precision."""
    while True:
        try:
            return _built(rng, recipe)
        except lti.NonFiniteError:
            speed = None if recipe.speed is None else 0
            recipe = replace(recipe, units="none", spectrum="plain", speed=speed)


def _built(rng, recipe):
    count = math.prod(recipe.batch)
    parts = [_one(rng, recipe) for _ in range(count)]
    n = parts[0][1].shape[0]
    (parameters, B, C, D, unit) = (
        [np.stack(x).reshape(*recipe.batch, *x[0].shape) for x in zip(*column, strict=True)]
        if isinstance(column[0], tuple)
        else np.stack(column).reshape(*recipe.batch, *column[0].shape)
        for column in zip(*parts, strict=True)
    )
    cast = _caster(recipe.dtype)
    continuous = recipe.speed is not None
    A = state_matrix(recipe.structure, [cast(x) for x in parameters], continuous)
    D, dt = cast(D) if recipe.feedthrough else None, 0 if continuous else True
    system = lti.LTI(A, cast(B), cast(C), D, dt=dt)
    return Draw(recipe, system, unit.reshape(*recipe.batch, n))


def state_matrix(structure, parameters, continuous):
    if "diagonal" in structure:
        return lti.Diagonal(*parameters)
    if "rotation" in structure:
        return (lti.Oscillation if continuous else lti.Rotation)(*parameters)
    return parameters[0]


def _one(rng, recipe):
    continuous = recipe.speed is not None
    parameters = _parameters(rng, recipe.structure, recipe.spectrum, recipe.order, continuous)
    if continuous:
        parameters = tuple(x * 2.0**recipe.speed for x in parameters)
    structured = "diagonal" in recipe.structure or "rotation" in recipe.structure
    n = recipe.order
    if "rotation" in recipe.structure:
        n = 2 * len(parameters[0]) + len(parameters[2])
    m, p = recipe.inputs, recipe.outputs
    B, C, D = (rng.standard_normal(shape) for shape in ((n, m), (p, n), (p, m)))
    if "complex" in recipe.structure:
        B, C, D = (X + 1j * rng.standard_normal(X.shape) for X in (B, C, D))
    if recipe.coupling == "non-minimal":
        B[::3] = 0
        C[:, 1::3] = 0
    if recipe.coupling == "graded":
        grades = np.geomspace(1, 10.0 ** -rng.uniform(3, 20), n)
        B, C = B * grades[:, None], C * rng.permutation(grades)
    if recipe.coupling == "sparse":
        B, C = B * (rng.uniform(size=B.shape) < 0.4), C * (rng.uniform(size=C.shape) < 0.4)
    if recipe.coupling == "no inputs":
        B = 0 * B
    if recipe.coupling == "no outputs":
        C = 0 * C
    # Powers of two, which change no digit as long as nothing over- or underflows.
    widest = {"float64": 240, "float32": 24}[recipe.dtype]
    unit, signals = np.zeros(n, dtype=int), np.zeros(2, dtype=int)
    if recipe.units in ("states", "both"):
        unit = rng.integers(-widest, widest + 1, n)
        if "rotation" in recipe.structure:
            unit[1 : 2 * len(parameters[0]) : 2] = unit[0 : 2 * len(parameters[0]) : 2]
    if recipe.units in ("signals", "both"):
        signals = rng.integers(-widest, widest + 1, 2)
    if recipe.units == "extreme":
        signals = rng.integers(-4 * widest, 4 * widest + 1, 2)
    with np.errstate(under="ignore", over="ignore"):
        B = shifted(B, unit[:, None] + signals[0])
        C = shifted(C, signals[1] - unit)
        D = shifted(D, np.full(D.shape, np.clip(signals.sum(), -500, 500)))
        if not structured:
            parameters = (shifted(parameters[0], unit[:, None] - unit),)
    return parameters, B, C, D, unit


def shifted(X, exponents):
    """X 2^exponents."""
    if np.iscomplexobj(X):
        return np.ldexp(X.real, exponents) + 1j * np.ldexp(X.imag, exponents)
    return np.ldexp(X, exponents)


def _caster(dtype):
    if dtype == "float64":
        return lambda x: x

    def cast(x):
        with np.errstate(under="ignore", over="ignore"):
            return x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)

    return cast


# --- the same in 120 digits -------------------------------------------------------------------


def structure_arrays(A):
    """('Diagonal', 'Rotation', 'Oscillation' or 'dense', its arrays)."""
    if isinstance(A, lti.Diagonal):
        return "Diagonal", (A.poles,)
    if isinstance(A, lti.Rotation | lti.Oscillation):
        return type(A).__name__, A.parameters
    return "dense", (A,)


@dataclass(frozen=True, eq=False)
class Given:
    """The arrays of one system, its exact self, and neighbours at a distance of 2^−100.

    The neighbours move as rounding does: poles of a Diagonal relatively (real ones by a share of
    their distance from the circle, since they are held exactly; in continuous time both parts),
    radius, gap to the circle and angle of a Rotation likewise, decay and frequency of an
    Oscillation; a dense A by a share of its norm in moderate units; rows of B and columns of C by a
    share of each entry, or of the norm of the block, or of the array (dense).
    """

    kind: str
    arrays: tuple
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    unit: np.ndarray
    seed: int
    continuous: bool

    @classmethod
    def of(cls, sys, index=(), unit=None, seed=0):
        kind, arrays = structure_arrays(sys.A)
        B = sys.B[index]
        D = np.zeros((sys.outputs, sys.inputs)) if sys.D is None else sys.D[index]
        unit = np.zeros(len(B), dtype=int) if unit is None else unit
        arrays = tuple(x[index] for x in arrays)
        return cls(kind, arrays, B, sys.C[index], D, unit, seed, sys.is_continuous)

    def in_dense(self):
        """The same system with A as an array."""
        if self.kind == "dense":
            return self
        arrays = (x.astype(np.result_type(x, float)) for x in self.arrays)
        A = getattr(lti, self.kind)(*arrays).to_dense()
        return replace(self, kind="dense", arrays=(A,))

    @property
    def blocks(self):
        return len(self.arrays[0]) if self.in_blocks else 0

    @property
    def in_blocks(self):
        return self.kind in ("Rotation", "Oscillation")

    @cached_property
    def speed(self):
        """log2 of the size of A in moderate states; None in discrete time."""
        if not self.continuous:
            return None
        A, _ = self.state_matrix(None)
        unit = [arb(2) ** int(e) for e in self.unit]
        size = largest(
            abs(A[i, j]).mid() * unit[j] / unit[i] for i, j in np.ndindex(A.nrows(), A.ncols())
        )
        return round(float((size.log() / math.log(2)).mid())) if size > 0 else 0

    @cached_property
    def exact(self):
        return self._system(None)

    @cached_property
    def neighbours(self):
        rng = np.random.default_rng([self.seed, 17])
        return [self._system(rng) for _ in range(2)]

    def _system(self, rng):
        A, poles = self.state_matrix(rng)
        B, C, D = (matrix(X) for X in (self.B, self.C, self.D))
        if rng is not None:
            B = self._moved_inputs(rng, B, 1)
            C = self._moved_inputs(rng, C.transpose(), -1).transpose()
            for i, j in np.ndindex(D.nrows(), D.ncols()):
                D[i, j] = D[i, j] * (1 + STEP * rng.standard_normal())
        unit = tuple(int(x) for x in self.unit)
        return Exact(A, B, C, D, unit, poles, self.blocks, self.speed)

    def state_matrix(self, rng):
        """(A, its poles where they are known), moved when there is a generator."""
        move = (lambda: STEP * rng.standard_normal()) if rng is not None else (lambda: arb(0))
        if self.kind == "dense":
            A = matrix(self.arrays[0])
            return (A if rng is None else self._moved_dense(rng, A)), None
        arrays = [[number(x) for x in values] for values in self.arrays]
        if rng is not None and self.continuous:
            arrays = [[_moved_parts(x, move) for x in values] for values in arrays]
        elif rng is not None and self.kind == "Diagonal":
            if np.iscomplexobj(self.arrays[0]):
                arrays[0] = [x * (1 + acb(move(), move())) for x in arrays[0]]
            else:
                arrays[0] = [x * (1 + move() * (1 - abs(x))) for x in arrays[0]]
        elif rng is not None:
            arrays = [
                [x * (1 + move() * (1 if k == 1 else 1 - abs(x))) for x in values]
                for k, values in enumerate(arrays)
            ]
        return exact_state_matrix(self.kind, arrays)

    def _moved_dense(self, rng, A):
        n = A.nrows()
        unit = [arb(2) ** int(e) for e in self.unit]
        size = sum(
            (abs(A[i, j]) ** 2 * (unit[j] / unit[i]) ** 2 for i, j in np.ndindex(n, n)), arb(0)
        ).sqrt()
        complex_ = np.iscomplexobj(self.arrays[0])
        moved = acb_mat(n, n)
        for i, j in np.ndindex(n, n):
            change = acb(rng.standard_normal(), rng.standard_normal() if complex_ else 0)
            moved[i, j] = A[i, j] + STEP / n**0.5 * size * unit[i] / unit[j] * change
        return moved.mid()

    def _moved_inputs(self, rng, B, sign):
        n, m = B.nrows(), B.ncols()
        complex_ = np.iscomplexobj(self.B)
        moved, sizes = acb_mat(n, m), self.entry_sizes(array(B), sign)
        for i, j in np.ndindex(n, m):
            change = acb(rng.standard_normal(), rng.standard_normal() if complex_ else 0)
            moved[i, j] = B[i, j] + STEP * sizes[i, j] * change
        return moved.mid()

    def entry_sizes(self, X, *signs):
        """Sizes that the rounding of an array (n, …) is relative to: its entries, norms of its
        blocks, or of the whole (dense). ``signs`` tell for the leading axes, which are those of
        states, whether they have the units of the states or their inverses."""
        squares = absolute(X) ** 2
        for axis, sign in enumerate(signs):
            rows = self._gathered(np.moveaxis(squares, axis, 0), sign)
            squares = np.moveaxis(rows, 0, axis)
        return roots(squares)

    def _gathered(self, squares, sign):
        out = squares.copy()
        if self.in_blocks:
            for i in range(0, 2 * len(self.arrays[0]), 2):
                out[i] = out[i + 1] = squares[i] + squares[i + 1]
        if self.kind == "dense" and len(squares):
            unit = [arb(2) ** (2 * sign * int(e)) for e in self.unit]
            total = sum((row / u for row, u in zip(squares, unit, strict=True)), 0 * squares[0])
            for i, u in enumerate(unit):
                out[i] = total * u
        return out


def _moved_parts(x, move):
    return acb(x.real * (1 + move()), x.imag * (1 + move()))


def roots(squares):
    return np.vectorize(lambda x: x.sqrt().mid(), otypes=[object])(squares)


def exact_state_matrix(kind, arrays):
    """(A, its poles where they are known) of the numbers that define a state matrix."""
    if kind == "dense":
        return arrays[0], None
    arrays = [list(x.entries() if isinstance(x, acb_mat) else x) for x in arrays]
    if kind == "Diagonal":
        return _diagonal_matrix(arrays[0]), tuple(x.mid() for x in arrays[0])
    radius, angle, real = ([acb(x).real for x in values] for values in arrays)
    n = 2 * len(radius) + len(real)
    A, poles = acb_mat(n, n), []
    for i, (r, a) in enumerate(zip(radius, angle, strict=True)):
        c, s = (r * a.cos(), r * a.sin()) if kind == "Rotation" else (-r, a)
        A[2 * i, 2 * i], A[2 * i, 2 * i + 1] = c, s
        A[2 * i + 1, 2 * i], A[2 * i + 1, 2 * i + 1] = -s, c
        poles += [acb(c, -s).mid(), acb(c, s).mid()]
    for i, r in enumerate(real):
        A[n - len(real) + i, n - len(real) + i] = r
        poles.append(acb(r).mid())
    return A.mid(), tuple(poles)


def _diagonal_matrix(values):
    A = acb_mat(len(values), len(values))
    for i, x in enumerate(values):
        A[i, i] = x
    return A
