"""The gated recurrence of RecurrentGemma."""

import pytest
import torch

import lticore as lti
from lticore_torch import ConversionError, convert


def model(name="RecurrentGemmaForCausalLM", **options):
    transformers = pytest.importorskip("transformers")
    config = {
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "attention_window_size": 64,
        "pad_token_id": 0,
        **options,
    }
    torch.manual_seed(0)
    made = getattr(transformers, name)(transformers.RecurrentGemmaConfig(**config))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made.eval()


def layer_of(made):
    return next(x for x in made.modules() if type(x).__name__ == "RecurrentGemmaRglru")


def tokens():
    torch.manual_seed(1)
    return torch.randint(1, 20, (2, 9))


def test_models_answer_as_before():
    made = model()
    converted, report = convert(made)
    assert set(report.values()) == {"RGLRU"}
    assert len(report) == 2  # two recurrent blocks for each of attention
    assert all(layer.difference < 1e-5 for layer in report.layers)
    assert layer_of(made).recurrent_states is None  # comparing left the original alone
    expected, found = (one(tokens(), use_cache=False).logits for one in (made, converted))
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_models_generate_the_same():
    made = model()
    converted, _ = convert(made)
    mask = torch.ones_like(tokens())
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    expected, found = (
        one.generate(tokens(), attention_mask=mask, **options) for one in (made, converted)
    )
    assert torch.equal(found, expected)


def test_the_recurrence_of_the_paper():
    """Step by step, in double precision, with a sequence that begins anew at step 5."""
    layer = layer_of(model()).double()
    converted, _ = convert(layer)
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    positions = torch.tensor([list(range(9)), [*range(5), *range(4)]])
    p = dict(layer.named_parameters())
    heads = x.unflatten(-1, (2, 4))

    def gate(kind):
        z = (heads[..., None, :] @ p[f"{kind}_gate_weight"]).squeeze(-2) + p[f"{kind}_gate_bias"]
        return 1 / (1 + torch.exp(-z.flatten(-2)))

    log_a = -8 * torch.log1p(torch.exp(p["recurrent_param"])) * gate("recurrent")
    a, state, outputs = log_a.exp(), torch.zeros(2, 8, dtype=torch.float64), []
    for k in range(9):
        drive, first = gate("input")[:, k] * x[:, k], (positions[:, k] == 0)[:, None]
        scaled = torch.sqrt(1 - a[:, k] ** 2) * drive
        state = torch.where(first, drive, a[:, k] * state + scaled)
        outputs.append(state)
    expected = torch.stack(outputs, dim=1)
    torch.testing.assert_close(converted(x, positions), expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(converted.recurrent_states, expected[:, -1])
    # The next call goes on from there.
    later = converted(x[:, :1], torch.full((2, 1), 9))
    torch.testing.assert_close(
        later[:, 0],
        a[:, 0] * expected[:, -1] + torch.sqrt(1 - a[:, 0] ** 2) * (gate("input") * x)[:, 0],
    )


def test_gradients_are_finite_where_nothing_decays():
    layer = layer_of(model())
    with torch.no_grad():
        layer.recurrent_param.fill_(-1e4)
    converted, _ = convert(layer)
    u = torch.randn(1, 6, 8, requires_grad=True)
    converted(u, torch.arange(1, 7)[None]).sum().backward()
    assert torch.isfinite(u.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in converted.parameters())


def test_no_steps_complex_inputs_and_other_parameters():
    layer = layer_of(model())
    converted, _ = convert(layer)
    assert converted(torch.zeros(2, 0, 8), torch.zeros(2, 0)).shape == (2, 0, 8)
    with pytest.raises(lti.DtypeError, match="complex64"):
        converted(torch.zeros(2, 3, 8, dtype=torch.complex64), torch.zeros(2, 3))
    del layer.recurrent_param
    with pytest.raises(ConversionError, match="has no recurrent_param"):
        convert(layer)
