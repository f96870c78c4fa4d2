"""Every error and warning of lticore.

All errors derive from :class:`LticoreError` and from the built-in exception a caller would
expect, so both ``except LticoreError`` and ``except ValueError`` work.
"""

import sys
import warnings


class LticoreError(Exception):
    """Base class of all errors raised by lticore."""


class ShapeError(LticoreError, ValueError):
    """Array dimensions do not fit each other or the argument's meaning."""


class BatchIndexError(LticoreError, IndexError):
    """A batch of systems has no entry of this index."""


class DtypeError(LticoreError, TypeError):
    """The array's dtype cannot carry the computation (float16, bool, object, ...)."""


class ArrayLibraryError(LticoreError, TypeError):
    """Arrays of different or unsupported libraries, or on different devices."""


class NonFiniteError(LticoreError, ValueError):
    """An argument contains NaN or infinity."""


class ArgumentError(LticoreError, ValueError):
    """A scalar argument is outside its range, or options contradict each other."""


class UnstableSystemError(LticoreError, ArithmeticError):
    """An operation that needs all poles inside the unit circle met one that is not.

    seen : the message without what the function at hand offers instead
    """

    def __init__(self, seen: str, remedy: str = "") -> None:
        super().__init__(f"{seen}. {remedy}" if remedy else seen)
        self.seen = seen


class SingularEquationError(LticoreError, ArithmeticError):
    """A matrix equation has no unique solution."""


class MemoryLimitError(LticoreError, MemoryError):
    """A result would take more memory than the machine can give."""


class NotRealError(LticoreError, ValueError):
    """A real system was needed, but the transfer function is not that of one."""


class PrecisionWarning(UserWarning):
    """A result carries less accuracy, or fewer states, than was asked for."""


def warn_precision(message: str) -> None:
    """Issue a PrecisionWarning that points at the line that called into lticore, or into the
    packages on top of it, whose names begin alike."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PrecisionWarning, stacklevel=level)
