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


def test_regulariser_in_a_cuda_graph(cupy):
    """Captured once, replayed with other parameters: the gradient is that of the new ones."""
    torch = pytest.importorskip("torch")
    from lticore_torch import SequenceClassifier, SequenceClassifierConfig, hankel_sum

    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 3, features=16, order=24, depth=2))
    model.cuda()
    parameters = [p for block in model.blocks for p in block.ssm.system_parameters()]

    def run():
        value = hankel_sum(model)
        return value, torch.autograd.grad(value, parameters)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, gradients = run()
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(0.9)
    graph.replay()
    torch.cuda.synchronize()
    expected_value, expected = run()
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-6)
    for g, h in zip(gradients, expected, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-6)


def test_regulariser_runs_on_the_current_stream(cupy):
    torch = pytest.importorskip("torch")
    from lticore_torch import RotationSSM, hankel_sum

    torch.manual_seed(0)
    layer = RotationSSM(8, 12).cuda()
    expected = hankel_sum(layer).item()
    with torch.cuda.stream(torch.cuda.Stream()):
        with torch.no_grad():
            # Work still under way on this stream must be waited for.
            torch.cuda._sleep(50_000_000)
            layer.B.mul_(2)
        assert hankel_sum(layer).item() == pytest.approx(2 * expected, rel=1e-5)
