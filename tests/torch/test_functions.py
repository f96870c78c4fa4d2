"""Gates of every differentiable operation: gradcheck, vmap, func.grad, compile, refusals."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import lticore as lti
from lticore_torch import linear_recurrence, spectral_sum


def recurrence_by_steps(poles, inputs, reverse):
    length = inputs.shape[-2]
    state = torch.zeros_like(inputs[..., 0, :])
    states = [None] * length
    for k in reversed(range(length)) if reverse else range(length):
        state = poles * state + inputs[..., k, :]
        states[k] = state
    return torch.stack(states, dim=-2)


@pytest.fixture(params=[torch.float64, torch.complex128], ids=["real", "complex"])
def dtype(request):
    return request.param


@pytest.fixture
def recurrence_arguments(dtype):
    torch.manual_seed(0)
    poles = (0.9 * torch.randn(3, dtype=dtype).sgn()).requires_grad_()
    return poles, torch.randn(2, 11, 3, dtype=dtype, requires_grad=True)


class TestLinearRecurrence:
    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("length", [1, 2, 3, 8, 37])
    def test_equals_step_by_step(self, dtype, length, reverse):
        torch.manual_seed(length)
        poles = 0.95 * torch.randn(4, dtype=dtype).sgn()
        inputs = torch.randn(2, length, 4, dtype=dtype)
        states = linear_recurrence(poles, inputs, reverse=reverse)
        torch.testing.assert_close(states, recurrence_by_steps(poles, inputs, reverse))

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("length", [0, 1, 2, 7, 37])
    def test_devices_without_kernels(self, monkeypatch, dtype, length, reverse):
        torch.manual_seed(length)
        poles = (0.95 * torch.randn(4, dtype=dtype).sgn()).requires_grad_()
        inputs = torch.randn(2, length, 4, dtype=dtype, requires_grad=True)
        results = []
        for _ in range(2):
            states = linear_recurrence(poles, inputs, reverse=reverse)
            gradients = torch.autograd.grad(states.abs().square().sum(), (poles, inputs))
            results.append((states, *gradients))
            monkeypatch.setattr("lticore_torch.recurrence.has_arrays", lambda device: False)
        for x, y in zip(*results, strict=True):
            torch.testing.assert_close(x, y)

    @pytest.mark.parametrize("reverse", [False, True])
    def test_gradients_of_both_orders(self, recurrence_arguments, reverse):
        def run(poles, inputs):
            return linear_recurrence(poles, inputs, reverse=reverse)

        assert gradcheck(run, recurrence_arguments)
        assert gradgradcheck(run, recurrence_arguments)

    def test_batched_poles(self, dtype):
        poles = torch.tensor([[0.5, -0.3], [0.9, 0.1]], dtype=dtype, requires_grad=True)
        inputs = torch.randn(2, 5, 2, dtype=dtype, requires_grad=True)
        expected = torch.stack([linear_recurrence(poles[i], inputs[i]) for i in range(2)])
        torch.testing.assert_close(linear_recurrence(poles, inputs), expected)
        assert gradcheck(linear_recurrence, (poles, inputs))

    def test_long_single_precision_sequences_keep_their_digits(self):
        torch.manual_seed(0)
        phase = torch.linspace(0.1, 3, 8, dtype=torch.float64)
        poles = torch.polar(torch.full_like(phase, 0.9999), phase)
        inputs = torch.randn(1, 16384, 8, dtype=torch.complex128)
        exact = linear_recurrence(poles, inputs)
        single = linear_recurrence(poles, inputs.to(torch.complex64))
        assert single.dtype == torch.complex64
        assert (single - exact).abs().max() < 1e-4 * exact.abs().max()

    def test_vmap_and_functional_gradient(self, recurrence_arguments):
        poles, inputs = (x.detach() for x in recurrence_arguments)
        torch.testing.assert_close(
            torch.func.vmap(linear_recurrence, in_dims=(None, 0))(poles, inputs),
            linear_recurrence(poles, inputs),
        )

        def energy(poles, inputs):
            return linear_recurrence(poles, inputs).abs().square().sum()

        per_sample = torch.func.vmap(torch.func.grad(energy), in_dims=(None, 0))(poles, inputs)
        torch.testing.assert_close(per_sample.sum(0), torch.func.grad(energy)(poles, inputs))

    def test_compiles_as_one_graph(self, recurrence_arguments):
        compiled = torch.compile(linear_recurrence, fullgraph=True, backend="aot_eager")
        poles, inputs = recurrence_arguments
        states = compiled(poles, inputs)
        torch.testing.assert_close(states, linear_recurrence(poles, inputs))
        states.abs().square().sum().backward()
        assert torch.isfinite(poles.grad.abs()).all()

    def test_forward_mode_is_refused_not_silently_zero(self, recurrence_arguments):
        poles, inputs = (x.detach() for x in recurrence_arguments)
        with pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(linear_recurrence, (poles, inputs), (poles, inputs))

    @pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("pole_dtype", [None, torch.float32, torch.float64])
    def test_half_precision_is_computed_in_single(self, half, pole_dtype):
        torch.manual_seed(0)
        poles = torch.tensor([0.5, -0.75], dtype=pole_dtype or half, requires_grad=True)
        inputs = torch.randn(2, 9, 2).to(half).requires_grad_()
        states = linear_recurrence(poles, inputs)
        weights = torch.randn(states.shape).to(half)
        found = torch.autograd.grad((states * weights).sum(), (poles, inputs))
        wide = [x.detach().float().requires_grad_() for x in (poles, inputs)]
        exact = linear_recurrence(*wide)
        expected = torch.autograd.grad((exact * weights.float()).sum(), wide)
        assert (states.dtype, found[0].dtype, found[1].dtype) == (half, poles.dtype, half)
        assert torch.equal(states, exact.to(half))
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y.to(x.dtype))

    def test_half_precision_compiles_and_maps(self):
        poles, inputs = torch.tensor([0.5, -0.75]), torch.randn(3, 9, 2).bfloat16()
        expected = linear_recurrence(poles, inputs)
        compiled = torch.compile(linear_recurrence, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(poles, inputs), expected)
        assert torch.equal(
            torch.func.vmap(linear_recurrence, in_dims=(None, 0))(poles, inputs), expected
        )

    def test_real_poles_drive_complex_inputs(self):
        torch.manual_seed(0)
        poles = torch.tensor([0.5, -0.9], dtype=torch.float64, requires_grad=True)
        inputs = torch.randn(2, 5, 2, dtype=torch.complex128, requires_grad=True)
        torch.testing.assert_close(
            linear_recurrence(poles, inputs), recurrence_by_steps(poles, inputs, False)
        )
        assert gradcheck(linear_recurrence, (poles, inputs))
        assert gradgradcheck(linear_recurrence, (poles, inputs))

    @pytest.mark.parametrize(
        ("poles", "inputs", "message"),
        [
            (torch.float32, torch.int64, "inputs has dtype torch.int64"),
            (torch.float32, torch.bool, "inputs has dtype torch.bool"),
            (torch.int32, torch.float32, "poles has dtype torch.int32"),
            (torch.complex64, torch.float32, "torch.complex64.*torch.float32.*complex"),
            (torch.complex128, torch.bfloat16, "torch.complex128.*torch.bfloat16.*complex"),
        ],
    )
    def test_dtypes_without_a_meaning_are_refused(self, poles, inputs, message):
        with pytest.raises(lti.DtypeError, match=message):
            linear_recurrence(torch.ones(2).to(poles), torch.ones(1, 4, 2).to(inputs))

    def test_inputs_are_not_modified_nor_aliased(self):
        inputs = torch.ones(1, 1, 2)
        states = linear_recurrence(torch.tensor([0.5, 0.5]), inputs)
        states.zero_()
        assert (inputs == 1).all()


def rotation_arguments(batch=()):
    torch.manual_seed(1)
    q, k, m, p = 3, 1, 2, 3
    n = 2 * q + k
    return tuple(
        x.double().requires_grad_()
        for x in (
            0.9 * torch.rand(*batch, q),
            3 * torch.rand(*batch, q),
            torch.rand(*batch, k) - 0.5,
            torch.randn(*batch, n, m),
            torch.randn(*batch, p, n),
        )
    )


def rotation_sum(radius, angle, real_poles, B, C):
    return spectral_sum("rotation", (radius, angle, real_poles), B, C)


class TestSpectralSum:
    def test_value_is_that_of_lticore(self):
        radius, angle, real_poles, B, C = (x.detach().numpy() for x in rotation_arguments())
        sys = lti.LTI(lti.Rotation(radius, angle, real_poles), B, C)
        value = rotation_sum(*rotation_arguments())
        assert value.item() == pytest.approx(float(lti.hankel_sum(sys)), rel=1e-12)

    @pytest.mark.parametrize("batch", [(), (2,)])
    def test_gradcheck_rotation(self, batch):
        assert gradcheck(rotation_sum, rotation_arguments(batch))

    @pytest.mark.parametrize("function", ["log", lti.schatten(0.5), lti.tail(2)])
    def test_gradcheck_functions(self, function):
        def run(poles, B, C):
            return spectral_sum("diagonal", (poles,), B, C, function)

        torch.manual_seed(0)
        poles = (0.8 * torch.rand(4, dtype=torch.complex128)).requires_grad_()
        B = torch.randn(4, 2, dtype=torch.complex128, requires_grad=True)
        C = torch.randn(2, 4, dtype=torch.complex128, requires_grad=True)
        assert gradcheck(run, (poles, B, C))

    def test_gradcheck_dense_and_mixed_real_complex(self):
        torch.manual_seed(0)
        A = (0.2 * torch.randn(4, 4, dtype=torch.float64)).requires_grad_()
        poles = (0.8 * torch.rand(4, dtype=torch.complex128)).requires_grad_()
        B = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
        C = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
        assert gradcheck(lambda *x: spectral_sum("dense", x[:1], *x[1:]), (A, B, C))
        # Real B and C beside complex poles: their gradients are real.
        assert gradcheck(lambda *x: spectral_sum("diagonal", x[:1], *x[1:]), (poles, B, C))

    def test_user_pair(self):
        squares = (lambda s: s**2, lambda s: 2 * s)
        *A, B, C = rotation_arguments()
        value = spectral_sum("rotation", tuple(A), B, C, squares)
        expected = spectral_sum("rotation", tuple(A), B, C, lti.schatten(2))
        torch.testing.assert_close(value, expected)

    def test_second_derivatives_are_refused(self):
        arguments = rotation_arguments()
        (gradient,) = torch.autograd.grad(
            rotation_sum(*arguments), arguments[:1], create_graph=True
        )
        with pytest.raises(NotImplementedError, match="no second derivative"):
            gradient.sum().backward()

    def test_functional_gradient_and_vmap(self):
        arguments = tuple(x.detach() for x in rotation_arguments((3,)))
        per_system = torch.stack([rotation_sum(*(x[i] for x in arguments)) for i in range(3)])
        torch.testing.assert_close(torch.func.vmap(rotation_sum)(*arguments), per_system)
        gradient = torch.func.vmap(torch.func.grad(rotation_sum, argnums=3))(*arguments)
        alone = torch.func.grad(rotation_sum, argnums=3)(*(x[1] for x in arguments))
        torch.testing.assert_close(gradient[1], alone)

    def test_vmap_over_some_arguments(self):
        radius, angle, real_poles, B, C = (x.detach() for x in rotation_arguments())
        scales = torch.tensor([1.0, 2.0], dtype=torch.float64)
        values = torch.func.vmap(lambda s: rotation_sum(radius, angle, real_poles, s * B, C))(
            scales
        )
        torch.testing.assert_close(values[1], 2 * values[0])

    def test_compiles_as_one_graph(self):
        arguments = rotation_arguments()
        compiled = torch.compile(rotation_sum, fullgraph=True, backend="aot_eager")
        value = compiled(*arguments)
        torch.testing.assert_close(value, rotation_sum(*arguments))
        value.backward()
        expected = torch.func.grad(rotation_sum)(*(x.detach() for x in arguments))
        torch.testing.assert_close(arguments[0].grad, expected)

    def test_forward_mode_is_refused_not_silently_zero(self):
        arguments = tuple(x.detach() for x in rotation_arguments())
        with pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(rotation_sum, arguments, arguments)

    def test_operator_passes_the_library_check(self):
        *A, B, C = (x.detach() for x in rotation_arguments())
        torch.library.opcheck(
            torch.ops.lticore.spectral_sum, ("rotation", "nuclear", B, C, list(A))
        )

    def test_single_precision_in_single_precision_out(self):
        *A, B, C = (x.detach().float().requires_grad_() for x in rotation_arguments())
        value = spectral_sum("rotation", tuple(A), B, C)
        value.backward()
        assert value.dtype == B.grad.dtype == A[0].grad.dtype == torch.float32

    def test_bad_input(self):
        *A, B, C = rotation_arguments()
        with pytest.raises(lti.ArgumentError, match="structure='round'"):
            spectral_sum("round", tuple(A), B, C)
        with pytest.raises(lti.UnstableSystemError, match="modulus"):
            spectral_sum("rotation", (A[0] + 1, *A[1:]), B, C)
        with pytest.raises(lti.NonFiniteError, match="B contains NaN"):
            spectral_sum("rotation", tuple(A), B * torch.nan, C)
