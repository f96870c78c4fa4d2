"""Operators keep what compiled code takes from their fake kernels, whatever their arguments are."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lticore_torch.ops import recurrence as recurrence_module
from lticore_torch.ops import spectral as functions

OPERATORS = torch.ops.lticore
#: All of opcheck but what takes a second for each case.
QUICK = ("test_schema", "test_autograd_registration", "test_faketensor")


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def poles(*shape, dtype=torch.complex128):
    return 0.9 * torch.rand(*shape, dtype=torch.float64) * torch.sgn(normal(*shape, dtype=dtype))


def state_space_map(reverse=False, keep=True, batch=2, length=70, pairs=2, reals=1):
    n = 2 * pairs + reals
    B, C, u = normal(n, 3), normal(2, n), normal(batch, length, 3)
    given = poles(pairs), poles(reals, dtype=torch.float64), B, C, u, normal(batch, n)
    return (*given, reverse, keep)


def state_space_map_adjoint(*sizes, **options):
    *tensors, reverse, keep = state_space_map(*sizes, **options)
    y, last, *kept = OPERATORS.state_space_map(*tensors, reverse, keep)
    return (*tensors, *kept, torch.randn_like(y), torch.randn_like(last), reverse, keep)


def recurrence(reverse=False, dtype=torch.complex128, varying=False, batch=2, length=5, n=3):
    given = poles(batch, length if varying else 1, n, dtype=dtype)
    return given, normal(batch, length, n, dtype=dtype), normal(batch, n, dtype=dtype), reverse


def recurrence_adjoint(*sizes, **options):
    given, inputs, initial, reverse = recurrence(*sizes, **options)
    states = OPERATORS.recurrence(given, inputs, initial, reverse)
    return given, torch.randn_like(states), states, initial, reverse


def spectral_sum(structure="rotation", batch=2, dtype=torch.float64):
    functions._register("nuclear")
    n = 5
    parameters = {
        "rotation": [torch.rand(batch, 2), torch.rand(batch, 2), 0.9 * torch.rand(batch, 1)],
        "diagonal": [poles(batch, n)],
        "dense": [normal(batch, n, n) / 10],
    }[structure]
    kind = torch.complex128 if structure == "diagonal" else dtype
    B, C = normal(batch, n, 2, dtype=kind), normal(batch, 1, n, dtype=kind)
    return structure, "nuclear", B, C, [x.to(kind) for x in parameters]


def channel_sums(batch=2, modes=5):
    return normal(batch, 4, modes), torch.arange(modes) % 3, 3


#: Name of the operator → how to make arguments of it, as they come and otherwise.
CASES = {
    "state_space_map": (
        state_space_map,
        [{}, {"reverse": True}, {"keep": False}, {"reverse": True, "keep": False}],
        [{"batch": 0}, {"length": 0}, {"length": 0, "keep": False}, {"pairs": 0}, {"reals": 0}],
    ),
    "state_space_map_adjoint": (
        state_space_map_adjoint,
        [{}, {"reverse": True}, {"keep": False}, {"reverse": True, "keep": False}],
        [{"batch": 0}, {"length": 0}, {"length": 0, "keep": False}, {"pairs": 0}, {"reals": 0}],
    ),
    "recurrence": (
        recurrence,
        [{}, {"reverse": True}, {"varying": True}, {"dtype": torch.float64}],
        [{"batch": 0}, {"length": 0}, {"n": 0}, {"length": 0, "varying": True}],
    ),
    "recurrence_adjoint": (
        recurrence_adjoint,
        [{}, {"reverse": True}, {"varying": True}, {"dtype": torch.float64}],
        [{"batch": 0}, {"length": 0}, {"n": 0}, {"length": 0, "varying": True}],
    ),
    "spectral_sum": (
        spectral_sum,
        [{}, {"structure": "diagonal"}, {"structure": "dense"}, {"dtype": torch.bfloat16}],
        [{"batch": 0}, {"batch": 1}],
    ),
    "channel_sums": (channel_sums, [{}], [{"batch": 0}, {"modes": 0}]),
}
AS_THEY_COME = [(name, given) for name, (_, usual, _) in CASES.items() for given in usual]
EMPTY = [(name, given) for name, (_, _, empty) in CASES.items() for given in empty]


def arguments(name, options):
    torch.manual_seed(0)
    return CASES[name][0](**options)


def transposed(x):
    return x.mT.contiguous().mT if x.ndim > 1 else strided(x)


def strided(x):
    wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    return wide[..., ::2]


def expanded(x):
    return x[:1].expand_as(x)


def conjugated(x):
    """A complex view that is to be conjugated when read, a real one whose sign is to change."""
    return x.conj().resolve_conj().conj() if x.is_complex() else torch._neg_view(-x)


def mapped(function, given):
    """``given`` with the function of its floating-point tensors in their places."""
    if isinstance(given, tuple | list):
        return type(given)(mapped(function, x) for x in given)
    floating = isinstance(given, torch.Tensor) and (given.is_complex() or given.is_floating_point())
    return function(given) if floating else given


def tensors_of(values):
    values = values if isinstance(values, tuple | list) else [values]
    flat = [x for value in values for x in (value if isinstance(value, list) else [value])]
    return [x for x in flat if isinstance(x, torch.Tensor)]


def kept_promises(operator, given):
    """The results; they have the form that the fake kernel gives, and memory of their own."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        promised = tensors_of(operator(*mapped(mode.from_tensor, given)))
    results = tensors_of(operator(*given))
    assert [form(x) for x in results] == [form(x) for x in promised]
    memory = [x.untyped_storage().data_ptr() for x in results if x.numel()]
    assert len(set(memory)) == len(memory)
    assert not {x.untyped_storage().data_ptr() for x in tensors_of(given)} & set(memory)
    return results


def form(x):
    return x.shape, x.stride(), x.dtype, x.device, x.is_conj(), x.is_neg()


@pytest.mark.parametrize("layout", [transposed, strided, expanded, conjugated])
@pytest.mark.parametrize(("name", "options"), AS_THEY_COME)
def test_layouts(name, options, layout):
    operator, plain = getattr(OPERATORS, name), arguments(name, options)
    if layout is expanded:
        plain = mapped(lambda x: expanded(x).clone(memory_format=torch.contiguous_format), plain)
    expected, given = tensors_of(operator(*plain)), mapped(layout, plain)
    for x, y in zip(kept_promises(operator, given), expected, strict=True):
        torch.testing.assert_close(x, y)
    torch.library.opcheck(operator, given, test_utils=QUICK)


@pytest.mark.parametrize(("name", "options"), [*AS_THEY_COME, *EMPTY])
def test_contiguous_and_empty(name, options):
    operator, given = getattr(OPERATORS, name), arguments(name, options)
    kept_promises(operator, given)
    torch.library.opcheck(operator, given, test_utils=QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [lambda x: x, transposed, strided, expanded, conjugated])
@pytest.mark.parametrize(("name", "options"), [*AS_THEY_COME, *EMPTY])
def test_everything_that_the_library_checks(name, options, layout):
    given = mapped(layout, arguments(name, options))
    torch.library.opcheck(getattr(OPERATORS, name), given)


@pytest.mark.parametrize("layout", [transposed, strided, expanded])
@pytest.mark.parametrize(
    ("name", "options"), [x for x in [*AS_THEY_COME, *EMPTY] if x[0].startswith("recurrence")]
)
def test_devices_without_kernels(name, options, layout, monkeypatch):
    monkeypatch.setattr(recurrence_module, "has_arrays", lambda device: False)
    kept_promises(getattr(OPERATORS, name), mapped(layout, arguments(name, options)))
