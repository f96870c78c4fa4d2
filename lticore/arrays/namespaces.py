"""Array libraries and devices: one text for NumPy, CuPy and the array API standard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any, ParamSpec, Protocol, TypeAlias

import array_api_compat
import array_api_compat.numpy
import numpy as np
from typing_extensions import TypeIs, TypeVar

from ..errors import ArrayLibraryError, LticoreError, MemoryLimitError, ShapeError


class StandardArray(Protocol):
    """What arrays of all libraries have in common: the part of the array API standard in use.

    The standard promotes dtypes, so arithmetic does not say what comes out.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __float__(self) -> float: ...
    def __bool__(self) -> bool: ...
    def __neg__(self) -> Any: ...
    def __add__(self, other: Any, /) -> Any: ...
    def __radd__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __rsub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __rtruediv__(self, other: Any, /) -> Any: ...
    def __floordiv__(self, other: Any, /) -> Any: ...
    def __pow__(self, other: Any, /) -> Any: ...
    def __matmul__(self, other: Any, /) -> Any: ...
    def __eq__(self, other: Any, /) -> Any: ...
    def __ne__(self, other: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __le__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...


#: An array of NumPy, CuPy or another library that follows the array API standard: one library in
#: all of a signature, so that NumPy in means NumPy out.
Array = TypeVar("Array", bound=StandardArray, default=Any)
P = ParamSpec("P")
Result = TypeVar("Result")
#: What NumPy computes with.
_OF_NUMPY = (np.ndarray, np.generic, int, float)
#: The namespace of such a library: a module, which no type describes.
Namespace: TypeAlias = Any


def namespace(*arrays: Any) -> Namespace:
    """Array API namespace shared by ``arrays`` (``None`` and Python scalars are passed over).

    Raises
    ------
    ArrayLibraryError
        When two libraries, or two devices, meet in one call.
    """
    # Nearly every call is pure NumPy; the general look-up costs more than small products do.
    for x in arrays:
        if type(x) is not np.ndarray and x is not None and not isinstance(x, _OF_NUMPY):
            break
    else:
        return array_api_compat.numpy
    present = [x for x in arrays if x is not None and not isinstance(x, int | float)]
    try:
        xp = array_api_compat.array_namespace(*present)
    except TypeError as error:
        kinds = sorted({f"{type(x).__module__}.{type(x).__qualname__}" for x in present})
        raise ArrayLibraryError(
            f"the arguments mix array types ({', '.join(kinds)}): convert them to one library; "
            "lticore never copies between devices on its own"
        ) from error
    devices = {str(array_api_compat.device(x)) for x in present}
    if len(devices) > 1:
        raise ArrayLibraryError(
            f"the arguments live on different devices ({', '.join(sorted(devices))}): move them "
            "to one device first"
        )
    return xp


def as_array(name: str, value: Any) -> Any:
    """``value`` as an array of its own library; lists and scalars become NumPy arrays."""
    if type(value) is np.ndarray:
        return _native(value)
    if _is_masked(value):
        raise ArrayLibraryError(
            f"{name} is a masked array, or holds some: lticore would drop the mask. Pass "
            f"{name}.filled(...), or the entries that are there"
        )
    if isinstance(value, np.ndarray):
        # Other subclasses, such as np.matrix, give `*` and indexing another meaning.
        return _native(np.asarray(value))
    if hasattr(value, "toarray"):
        raise ArrayLibraryError(
            f"{name} is a sparse {type(value).__name__}: lticore computes on dense arrays. Pass "
            f"{name}.toarray(), Diagonal(poles) for a diagonal A, or Sparse(A) for the A of an LTI"
        )
    if array_api_compat.is_torch_array(value):
        raise ArrayLibraryError(
            f"{name} is a torch.Tensor: lticore computes on NumPy and CuPy arrays. Use "
            "lticore_torch, or pass tensor.detach().numpy()"
        )
    if array_api_compat.is_jax_array(value):
        raise ArrayLibraryError(
            f"{name} is a JAX array: lticore computes on NumPy and CuPy arrays. "
            "Pass numpy.asarray(array)"
        )
    if is_cupy(value):
        return _on_current_device(name, value)
    if array_api_compat.is_array_api_obj(value):
        return value
    try:
        x = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name} is not a rectangular array: {error}") from error
    except (TypeError, RuntimeError) as error:  # of lists of other libraries' arrays
        raise ArrayLibraryError(f"{name} cannot be read by NumPy: {error}") from error
    if x.dtype == object and x.ndim == 0:
        raise ArrayLibraryError(f"{name} is a {type(value).__name__}, not an array of numbers")
    return _native(x)


def _on_current_device(name: str, value: Any) -> Any:
    """``value``, on the CUDA device on which CuPy allocates and launches."""
    import cupy

    current = cupy.cuda.Device()
    if value.device != current:
        raise ArrayLibraryError(
            f"{name} lies on {value.device}, but CuPy works on {current}: call lticore inside "
            "`with array.device:`"
        )
    return value


def _native(x: np.ndarray) -> np.ndarray:
    """``x`` in the machine's own order of bytes, which compiled code needs."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _is_masked(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_masked, value))
    return isinstance(value, np.ndarray) and isinstance(value, np.ma.MaskedArray)


def is_numpy(array: Any) -> TypeIs[np.ndarray]:
    """Whether LAPACK through SciPy can work on ``array`` where it lies."""
    return isinstance(array, np.ndarray)


def is_cupy(array: Any) -> bool:
    """Whether ``array`` lies on a CUDA device."""
    return bool(array_api_compat.is_cupy_array(array))


def suits_products(array: Any) -> bool:
    """Whether ``array`` lies where products of matrices are fast, and decompositions slow."""
    return is_cupy(array) or is_torch(array)


def is_torch(array: Any) -> bool:
    """Whether ``array`` is a tensor, which only lticore_torch hands in."""
    return bool(array_api_compat.is_torch_array(array))


def holds(condition: Array) -> bool:
    """Whether a condition holds everywhere.

    Taken for granted while a CUDA graph is captured, when the host cannot look at the device: the
    calls that warm up before a capture have looked. Taken for granted on CUDA devices also inside
    :func:`asked_together`, which looks at the end.
    """
    return _taken_for_granted(condition) or bool(namespace(condition).all(condition))


def is_finite(x: Array) -> bool:
    """Whether all numbers of ``x`` are; taken for granted as by :func:`holds`."""
    return _taken_for_granted(x) or bool(namespace(x).all(namespace(x).isfinite(x)))


def _taken_for_granted(x: Array) -> bool:
    if is_numpy(x):
        return False
    asked = _ASKED.get()
    return is_cupy(x) and _capturing() if asked is None else asked.asks(x)


class Questions(Protocol):
    """Who takes note of what was taken for granted."""

    def asks(self, x: Any) -> bool:
        """Whether ``x``, a condition or numbers, is taken for granted."""
        ...


class _QuestionsToCuPy:
    """What was taken for granted of arrays of CuPy: that a condition holds, or numbers are finite.

    Each has a slot on the device, which one launch fills; all slots are read together.
    """

    def __init__(self) -> None:
        self.slots: Any = None
        self.kinds: list[Any] = []

    def asks(self, x: Any) -> bool:
        import cupy

        if not is_cupy(x):
            return False
        if _capturing() or x.size == 0:
            return True
        if self.slots is None:
            self.slots = cupy.empty((_SLOTS, _SLOT), dtype=cupy.uint8)
        if len(self.kinds) == _SLOTS:
            return False
        place = self.slots[len(self.kinds)].view(x.dtype)[:1].reshape(())
        # A sum is finite where all numbers are, but for numbers near the largest there is.
        (cupy.all if x.dtype == bool else cupy.sum)(x, out=place)
        self.kinds.append(x.dtype)
        return True

    def all_hold(self) -> bool:
        if not self.kinds:
            return True
        slots = self.slots.get()
        answers = [slot.view(kind)[0] for slot, kind in zip(slots, self.kinds, strict=False)]
        return all(x if x.dtype == bool else np.isfinite(x) for x in answers)


#: Questions asked together at most, and bytes for the answer to each.
_SLOTS, _SLOT = 64, 16
_ASKED: ContextVar[Questions | None] = ContextVar("_ASKED", default=None)


@contextmanager
def asking(questions: Questions) -> Iterator[None]:
    """What :func:`holds` and :func:`is_finite` ask inside goes to ``questions``."""
    token = _ASKED.set(questions)
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked_together(function: Callable[P, Result]) -> Callable[P, Result]:
    """``function``, whose host waits for a CUDA device once: all that :func:`holds` asks about
    arrays of CuPy is asked at the end, and where something does not hold, all is computed again,
    and asked where it matters."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        if "cupy" not in sys.modules or _ASKED.get() is not None:
            return function(*args, **kwargs)
        with device_memory():
            asked = _QuestionsToCuPy()
            try:
                with asking(asked):
                    result = function(*args, **kwargs)
            except LticoreError:
                # Of what was taken for granted, perhaps: then another error says more.
                if asked.all_hold():
                    raise
            else:
                if asked.all_hold():
                    return result
            return function(*args, **kwargs)

    return run


@contextmanager
def device_memory() -> Iterator[None]:
    """Raises :class:`MemoryLimitError` where CuPy finds no memory inside."""
    try:
        yield
    except MemoryError as error:
        if not type(error).__module__.startswith("cupy"):
            raise
        raise MemoryLimitError(
            f"the CUDA device has not enough free memory ({error}): hand in fewer systems, states "
            "or steps at once, let go of other arrays "
            "(cupy.get_default_memory_pool().free_all_blocks()), or move these to the host"
        ) from error


def _capturing() -> bool:
    import cupy

    return bool(cupy.cuda.get_current_stream().is_capturing())


def elementwise(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function(xp, *arrays)``, by elementwise functions of the arrays' library xp, as one of the
    arrays; of CuPy's in one launch."""

    @wraps(function)
    def run(*arrays: Any) -> Result:
        xp = namespace(*arrays)
        return (_one_launch(function, xp) if is_cupy(arrays[0]) else partial(function, xp))(*arrays)

    return run


@cache
def _one_launch(function: Callable[..., Any], xp: Namespace) -> Callable[..., Any]:
    import cupy

    return cupy.fuse(kernel_name=function.__name__)(partial(function, xp))


def to_numpy(array: Any) -> np.ndarray:
    """A NumPy copy: the one place that leaves a device."""
    if is_cupy(array):
        if _capturing():
            raise ArrayLibraryError(
                "this function computes on the host, which cannot wait for a CUDA graph that is "
                "being captured: call it outside"
            )
        return np.asarray(array.get())
    return np.asarray(array)


def zeros_like_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Zeros of the given shape with the dtype, library and device of ``x``."""
    xp = namespace(x)
    return xp.zeros(shape, dtype=x.dtype, device=array_api_compat.device(x))
