"""Every error and warning of lticore.

All errors derive from :class:`LticoreError` and from the built-in exception a caller would
expect, so both ``except LticoreError`` and ``except ValueError`` work.
"""

import sys
import warnings


class LticoreError(Exception):
    """Base class of all errors raised by lticore.

    ``except LticoreError`` catches them all. The message says which argument, what was seen and
    what to do.
    """


class ShapeError(LticoreError, ValueError):
    """Array dimensions do not fit each other or the argument's meaning.

    Mostly a vector where a matrix is needed (``b[:, None]`` is one input, ``c[None]`` one output),
    or a batch where a function takes one system: the message says which shape it needs.
    """


class BatchIndexError(LticoreError, IndexError):
    """A batch of systems has no entry of this index.

    An index counts entries of ``sys.batch_shape``; a single system has none, and is not taken
    apart into its matrices: use ``sys.A``, ``sys.B``, ``sys.C``, ``sys.D``.
    """


class DtypeError(LticoreError, TypeError):
    """The array's dtype cannot carry the computation (float16, bool, object, …), or is complex
    where numbers must be real.

    Convert the array yourself, as by ``.astype("float64")``: nothing is rounded in silence.
    """


class ArrayLibraryError(LticoreError, TypeError):
    """Arrays of different or unsupported libraries, or on different devices.

    Nothing is copied between libraries or devices unasked: convert arrays to NumPy or to CuPy, all
    on one device. It is raised, too, where the algorithm needs LAPACK and so NumPy arrays.
    """


class NonFiniteError(LticoreError, ValueError):
    """An argument contains NaN or infinity, or a result is too large for its precision.

    Look upstream: a training run that diverged, an overflow, missing data. A result that is too
    large for float32 fits in float64, and with B and C smaller.
    """


class ArgumentError(LticoreError, ValueError):
    """An argument is outside its range, or options contradict each other.

    Also where a function does not take this kind of system or layer. The message says what is
    taken.
    """


class UnstableSystemError(LticoreError, ArithmeticError):
    """An operation that needs all poles inside the unit circle, in continuous time left of the
    imaginary axis, met one that is not.

    A continuous-time system without ``dt=0``, a radius that rounded to 1 in float32, an integrator.
    Many functions take unstable systems over a finite ``horizon``;
    :func:`lticore.balanced_truncation` keeps the unstable part with ``unstable="keep"``.

    seen : the message without what the function at hand offers instead
    """

    def __init__(self, seen: str, remedy: str = "") -> None:
        super().__init__(f"{seen}. {remedy}" if remedy else seen)
        self.seen = seen


class SingularEquationError(LticoreError, ArithmeticError):
    """A matrix equation has no unique solution.

    Two poles whose product is 1 (Stein equation) or whose sum is 0 (Lyapunov equation), a singular
    descriptor matrix E, a feedback loop without a solution. A finite ``horizon`` exists for all
    poles; the algebraic equations of a singular E must be taken out before.
    """


class MemoryLimitError(LticoreError, MemoryError):
    """A result would take more memory than the machine can give.

    Give ``max_rank`` where factors of Gramians of many states are the reason; on a CUDA device
    hand in fewer systems, states or steps at once.
    """


class NotRealError(LticoreError, ValueError):
    """A real system was needed, but the transfer function is not that of one.

    Poles off the real axis without their conjugates, or B and C that are not conjugate with them.
    A layer that computes Re(C x) is a real system of twice the order, as :func:`lticore.from_lru`
    and :func:`lticore.from_s5` build it.
    """


class PrecisionWarning(UserWarning):
    """A result carries less accuracy, or fewer states, than was asked for.

    The message says how much is lost and by what: mostly poles next to the boundary of stability
    in a dense A, which ``Diagonal``, ``Rotation`` and ``Oscillation`` hold exactly, eigenvectors
    that are nearly dependent, or values at the level of rounding.
    """


def counted(count: int, thing: str) -> str:
    """The number and the word for it: 1 state, 2 states."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def warn_precision(message: str) -> None:
    """Issue a PrecisionWarning that points at the line that called into lticore, or into the
    packages on top of it, whose names begin alike."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PrecisionWarning, stacklevel=level)
