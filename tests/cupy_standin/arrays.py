"""CuPy's array over NumPy's memory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from .counts import DEVICE

SIGNATURES = json.loads(Path(__file__).with_name("signatures.json").read_text("utf-8"))
#: Methods and functions that give another view of the same memory.
VIEWS = {"swapaxes", "moveaxis", "transpose", "permute_dims", "expand_dims", "squeeze", "rollaxis"}
VIEWS |= {
    "broadcast_to",
    "broadcast_arrays",
    "matrix_transpose",
    "diagonal",
    "real",
    "imag",
    "view",
}
VIEWS |= {"atleast_1d", "atleast_2d", "reshape", "ravel", "shape", "ndim", "size"}
VIEWS |= {"result_type", "can_cast", "isdtype", "iscomplexobj", "isrealobj", "finfo", "iinfo"}


class OutOfMemoryError(MemoryError):
    pass


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class ndarray:
    """Refuses what CuPy refuses: NumPy arrays beside it, and becoming one by itself."""

    __hash__ = None
    __array_priority__ = 100

    def __init__(self, array):
        self._a = np.asarray(array)
        most = DEVICE.most_bytes
        if most is not None and self._a.base is None and self._a.nbytes > most:
            raise OutOfMemoryError(f"Out of memory allocating {self._a.nbytes:,} bytes")
        self._device = DEVICE.current

    def __array__(self, *_, **__):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__" or not hasattr(self.__array_namespace__(), ufunc.__name__):
            return NotImplemented
        options |= {} if out is None else {"out": out[0]}
        return getattr(self.__array_namespace__(), ufunc.__name__)(*inputs, **options)

    def __array_function__(self, function, types, args, options):
        module = self.__array_namespace__()
        if not hasattr(module, function.__name__):
            return NotImplemented
        return getattr(module, function.__name__)(*args, **options)

    def __array_namespace__(self, *, api_version=None):
        from . import cupy

        return cupy

    @property
    def data(self):
        return SimpleNamespace(ptr=self._a.ctypes.data)

    @property
    def device(self):
        return self.__array_namespace__().cuda.Device(self._device)

    def __dlpack__(self, **options):
        return self._a.__dlpack__()

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()

    # What the host waits for.

    def get(self, *_, **__):
        DEVICE.wait("get", self._a.nbytes)
        return self._a.copy()

    def _scalar(self, kind):
        DEVICE.wait(kind.__name__, self._a.nbytes)
        return kind(self._a)

    def __bool__(self):
        return self._scalar(bool)

    def __int__(self):
        return self._scalar(int)

    def __float__(self):
        return self._scalar(float)

    def __complex__(self):
        return self._scalar(complex)

    def __index__(self):
        return self._scalar(int)

    def item(self, *args):
        DEVICE.wait("item", self._a.itemsize)
        return self._a.item(*args)

    def tolist(self):
        DEVICE.wait("tolist", self._a.nbytes)
        return self._a.tolist()

    # What is a view, and what a launch.

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (ndarray(x) for x in self._a)

    def __repr__(self):
        return f"cupy.{self._a!r}"

    def __getitem__(self, index):
        if is_gather(index):
            DEVICE.launch("getitem")
        return ndarray(self._a[unwrapped(index)])

    def __setitem__(self, index, value):
        refuse_numpy([value])
        is_gather(index)
        DEVICE.launch("setitem")
        self._a[unwrapped(index)] = unwrapped(value)

    def __getattr__(self, name):
        if name.startswith("__") or name not in SIGNATURES["methods"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._a, name)
        if not callable(value) or isinstance(value, np.ndarray):
            return wrapped(value)

        def method(*args, **options):
            refuse_numpy([*args, *options.values()])
            result = value(*unwrapped(args), **unwrapped(options))
            if result is self._a:
                return self
            if name not in VIEWS or (name == "reshape" and not np.shares_memory(result, self._a)):
                DEVICE.launch(name)
            return wrapped(result)

        return method

    @property
    def real(self):
        return ndarray(self._a.real)

    @real.setter
    def real(self, value):
        DEVICE.launch("real")
        self._a.real = unwrapped(value)

    @property
    def imag(self):
        return ndarray(self._a.imag)

    @imag.setter
    def imag(self, value):
        DEVICE.launch("imag")
        self._a.imag = unwrapped(value)


ndarray.__module__ = "cupy"


def _operator(name, function, reflected=False, in_place=False):
    def operate(self, other):
        refuse_numpy([other])
        if not isinstance(other, ndarray | int | float | complex | np.generic):
            return NotImplemented
        run = getattr(self.__array_namespace__(), function)
        if in_place:
            return run(self, other, out=self)
        return run(other, self) if reflected else run(self, other)

    setattr(ndarray, f"__{name}__", operate)


for _name, _function in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "matmul": "matmul",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}.items():  # fmt: skip
    _operator(_name, _function)
    _operator(f"r{_name}", _function, reflected=True)
    if _name != "matmul":
        _operator(f"i{_name}", _function, in_place=True)
for _name, _function in {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}.items():  # fmt: skip
    _operator(_name, _function)
for _name, _function in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
    setattr(
        ndarray,
        f"__{_name}__",
        lambda self, function=_function: getattr(self.__array_namespace__(), function)(self),
    )


def is_gather(index):
    """Whether an index is an array; of one of truths the host must know how many hold."""
    arrays = [x for x in (index if isinstance(index, tuple) else (index,)) if _is_array(x)]
    if any(isinstance(x, ndarray) and x.dtype == bool for x in arrays):
        DEVICE.wait("boolean mask")
    return bool(arrays)


def _is_array(x):
    return isinstance(x, ndarray | np.ndarray | list)


def refuse_numpy(values):
    if any(isinstance(x, np.ndarray) for x in values):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def wrapped(x):
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(x)
    if isinstance(x, tuple):
        values = [wrapped(v) for v in x]
        return type(x)(*values) if hasattr(x, "_fields") else tuple(values)
    return [wrapped(v) for v in x] if isinstance(x, list) else x


def unwrapped(x):
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, tuple | list):
        return type(x)(unwrapped(v) for v in x)
    return {k: unwrapped(v) for k, v in x.items()} if isinstance(x, dict) else x
