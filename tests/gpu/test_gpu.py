"""CuPy arrays stay on the device and give the numbers of NumPy; CUDA tensors go there and back."""

import numpy as np
import pytest

import lticore as lti

pytestmark = pytest.mark.gpu


def rotation_system(xp=np, batch=()):
    rng = np.random.default_rng(0)
    q, k, m, p = 5, 2, 3, 2
    n = 2 * q + k
    arrays = (
        rng.uniform(0.3, 0.99, (*batch, q)),
        rng.uniform(0, np.pi, (*batch, q)),
        rng.uniform(-0.9, 0.9, (*batch, k)),
        rng.normal(size=(*batch, n, m)),
        rng.normal(size=(*batch, p, n)),
    )
    radius, angle, real_poles, B, C = map(xp.asarray, arrays)
    return lti.LTI(lti.Rotation(radius, angle, real_poles), B, C)


def diagonal_system(xp=np, batch=()):
    sys = lti.diagonalize(rotation_system(batch=batch))
    return lti.LTI(lti.Diagonal(xp.asarray(sys.A.poles)), xp.asarray(sys.B), xp.asarray(sys.C))


FUNCTIONS = {
    "controllability_gramian": lti.controllability_gramian,
    "finite_gramian": lambda sys: lti.observability_gramian(sys, horizon=7),
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_sum": lti.hankel_sum,
    "gradient": lambda sys: lti.hankel_sum_and_gradient(sys)[1].B,
    "gradient_of_A": lambda sys: lti.hankel_sum_and_gradient(sys)[1].A[0],
    "h2_norm": lti.h2_norm,
    "frequency_response": lambda sys: lti.frequency_response(sys, sys.B.real.ravel()[:3]),
    "impulse_response": lambda sys: lti.impulse_response(sys, 6),
    "truncation_bound": lambda sys: lti.balanced_truncation(sys, order=4).error_bound,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("make", [rotation_system, diagonal_system])
def test_cupy_equals_numpy(cupy, make, batch, name):
    result = FUNCTIONS[name](make(cupy, batch))
    assert isinstance(result, cupy.ndarray)
    expected = FUNCTIONS[name](make(np, batch))
    np.testing.assert_allclose(result.get(), expected, rtol=1e-9, atol=1e-9)


def test_mixing_host_and_device_is_refused(cupy):
    with pytest.raises(lti.ArrayLibraryError, match="mix array types"):
        lti.LTI(lti.Diagonal(cupy.asarray([0.5])), np.ones((1, 1)), np.ones((1, 1)))


def test_model_on_the_device(cupy):
    torch = pytest.importorskip("torch")
    from lticore_torch import SequenceClassifier, SequenceClassifierConfig, compress, hankel_sum

    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 3, features=4, order=9, depth=2))
    expected = hankel_sum(model)
    expected.backward()
    gradient = model.blocks[0].ssm.B.grad.clone()
    _, report = compress(model, ratio=0.5)
    model.zero_grad()
    model.cuda()

    value = hankel_sum(model)
    value.backward()
    assert value.device.type == "cuda"
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(model.blocks[0].ssm.B.grad.cpu(), gradient, rtol=1e-4, atol=1e-6)
    small, on_device = compress(model, ratio=0.5)
    assert on_device.orders == report.orders
    assert next(small.parameters()).device.type == "cuda"
    assert small(torch.randn(2, 8, 1, device="cuda")).device.type == "cuda"
