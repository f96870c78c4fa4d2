"""Writes signatures.json: the names of CuPy and how its functions are called.

    pip install cupy-cuda12x; python tests/cupy_standin/signatures.py

CuPy can be imported without a device.
"""

import inspect
import json
import warnings
from pathlib import Path
from types import ModuleType

FILE = Path(__file__).with_name("signatures.json")
MODULES = ("cupy", "cupy.linalg", "cupy.fft", "cupy.random")


def signature(value):
    """[[name, kind, whether it has a default], …]; None of what has none to be read."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.value, p.default is not p.empty] for p in parameters]


def describe(value):
    if type(value).__name__ == "ufunc":
        return "ufunc"
    if isinstance(value, type) or not callable(value):
        return "value"
    return signature(value)


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import cupy
    found = {
        "version": cupy.__version__,
        "methods": [x for x in dir(cupy.ndarray) if x[:2] != "__"],
    }
    for name in MODULES:
        module = cupy if name == "cupy" else getattr(cupy, name.partition(".")[2])
        names = getattr(module, "__all__", None) or dir(module)
        public = {x: getattr(module, x) for x in sorted(names) if not x.startswith("_")}
        found[name] = {
            x: describe(value) for x, value in public.items() if not isinstance(value, ModuleType)
        }
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
