"""CUDA tensors go to the device's arrays and come back."""

import pytest

pytestmark = pytest.mark.gpu


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
