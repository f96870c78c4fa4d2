"""Gates of every differentiable operation: gradcheck, vmap, func.grad, compile, refusals."""

import pytest
import torch
from torch.autograd import gradcheck

import lticore as lti
from lticore_torch import spectral_sum


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
