"""Arrays at the doors: every public function of arrays, and every kind of array."""

import re

import array_api_strict
import numpy as np
import pytest
import scipy.sparse
from doors import ARRAY_ROWS, NOT_DOORS, arrays_of, assert_same, in_rows, public_functions

import lticore as lti

#: The same numbers may meet other paths of BLAS where they lie differently: sums of a few integers,
#: and in `discretize` matrix exponentials.
RTOL = 1e-14


class Subclass(np.ndarray):
    pass


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


SAME = {
    "nested lists": lambda x: x.tolist(),
    "lists of tuples": lambda x: list(map(tuple, x)) if x.ndim > 1 else list(x),
    "integers": lambda x: x.astype(np.int64),
    "small integers": lambda x: x.astype(np.int8),
    "lists of integers": lambda x: x.astype(int).tolist(),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
    "every other entry": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "read-only": read_only,
    "big-endian": lambda x: x.astype(">f8"),
    "big-endian integers": lambda x: x.astype(">i4"),
    "subclass": lambda x: x.view(Subclass),
}


def with_entry(x, value):
    x = x.copy()
    x.flat[-1] = value
    return x


class Opaque:
    """As arrays on a device are."""

    def __array__(self, *arguments, **options):
        raise TypeError("no copies")


def torch_tensor(x):
    return pytest.importorskip("torch").from_numpy(x)


REFUSED = {
    "NaN": (lambda x: with_entry(x, np.nan), lti.NonFiniteError, "contains NaN"),
    "infinite": (lambda x: with_entry(x, -np.inf), lti.NonFiniteError, "contains NaN or infinity"),
    "half precision": (lambda x: x.astype(np.float16), lti.DtypeError, "has dtype float16"),
    "long double": (lambda x: x.astype(np.longdouble), lti.DtypeError, "has dtype (float|long)"),
    "objects": (lambda x: x.astype(object), lti.DtypeError, "has dtype object"),
    "strings": (lambda x: x.astype(str), lti.DtypeError, "has dtype str"),
    "masked": (np.ma.array, lti.ArrayLibraryError, r"is a masked array.*\.filled"),
    "list of masked": (
        lambda x: [np.ma.array(x[0])],
        lti.ArrayLibraryError,
        r"is a masked array.*\.filled",
    ),
    "sparse": (scipy.sparse.csr_array, lti.ArrayLibraryError, r"is a sparse csr_array.*\.toarray"),
    "torch": (torch_tensor, lti.ArrayLibraryError, r"is a torch\.Tensor.*\.numpy\(\)"),
    "list of other arrays": (
        lambda x: [Opaque(), Opaque()],
        lti.ArrayLibraryError,
        "cannot be read by NumPy: no copies",
    ),
    "no array": (lambda x: {"data": x}, lti.ArrayLibraryError, "is a dict, not an array"),
    "ragged": (lambda x: [*x.tolist(), [1.0] * 7], lti.ShapeError, "is not a rectangular array"),
}
#: Rows whose arrays never meet, or as numbers only.
ALONE = {
    "allocate_orders",
    "allocate_orders_by_error",
    "certificate.LayerConstants",
    "certificate.logit_error_bound",
    "certificate.gated_unit_lipschitz",
    "certificate.layer_norm_lipschitz",
}
ARGUMENTS = [(row, name) for row, (_, arrays) in ARRAY_ROWS.items() for name in arrays]


def test_every_public_function_has_a_row():
    assert in_rows() | NOT_DOORS == public_functions()


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("row", ARRAY_ROWS)
def test_arrays_of_all_kinds_give_the_same(row, kind):
    function, arrays = ARRAY_ROWS[row]
    arrays = [np.array(x) for x in arrays.values()]
    given = [SAME[kind](x) for x in arrays]
    before = [np.array(x) for x in given]
    found = arrays_of(function(*given))
    assert_same(found, arrays_of(function(*arrays)), RTOL)
    assert all(np.array_equal(x, y) for x, y in zip(before, given, strict=True))
    assert all(x.dtype.isnative for x in found)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize(("row", "name"), ARGUMENTS)
def test_what_is_refused_is_named(row, name, kind):
    function, arrays = ARRAY_ROWS[row]
    convert, error, message = REFUSED[kind]
    given = {key: np.array(x) for key, x in arrays.items()}
    if kind == "sparse" and given[name].ndim != 2:
        convert = scipy.sparse.coo_array
        message = message.replace("csr", "coo")
        given[name] = given[name].reshape(-1)
    if kind == "long double" and np.longdouble == np.float64:
        pytest.skip("long double is double here")
    given[name] = convert(given[name])
    with pytest.raises(error, match=f"^{re.escape(name)} {message}"):
        function(*given.values())


def is_number(row, name):
    """Whether a number is an answer; D of S4D is then that of every channel."""
    return name == "step" or row.startswith("certificate") or (row, name) == ("from_s4d", "D")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        argument
        for argument in ARGUMENTS
        if not is_number(*argument)
        or argument[1] in ("decoder", "gate", "value", "scale", "discarded_values")
    ],
)
@pytest.mark.parametrize("number", [2.0, np.float64(2), np.array(2.0)])
def test_numbers_are_no_arrays(row, name, number):
    function, arrays = ARRAY_ROWS[row]
    with pytest.raises(lti.ShapeError, match=rf"^{re.escape(name)} has shape \(\)"):
        function(*(arrays | {name: number}).values())


@pytest.mark.parametrize(
    ("row", "name"),
    [(row, name) for row, name in ARGUMENTS if len(ARRAY_ROWS[row][1]) > 1 and row not in ALONE],
)
def test_libraries_are_not_mixed(row, name):
    function, arrays = ARRAY_ROWS[row]
    given = {key: np.array(x) for key, x in arrays.items()}
    given[name] = array_api_strict.asarray(given[name])
    with pytest.raises(lti.ArrayLibraryError, match="the arguments mix array types"):
        function(*given.values())
