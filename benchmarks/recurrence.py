"""Linear recurrence, forward and backward, beside plain torch and memory.

``make bench-recurrence``.

Contestants take turns in one process; the fastest turn counts beside bandwidth, the median beside
each other. Then the map of a layer with and without keeping its states: time and memory kept.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import machine
import numba
import torch
import tyro
from torch import Tensor

from lticore_torch import linear_recurrence, state_space_map

#: The ratios to reach at the first form, and the share of time that memory alone needs.
BAR_CONVOLUTION, BAR_SCAN, BAR_MEMORY = 12.0, 6.0, 2.0
#: (batch, steps, states)
FORMS = ((16, 1024, 128), (50, 784, 64), (4, 16384, 64))
DTYPES = (torch.complex64, torch.float32)


@dataclass(frozen=True)
class Options:
    rounds: int = 15
    """Turns of each contestant."""


def convolution(poles: Tensor, inputs: Tensor) -> Tensor:
    """FFT convolution with the powers of the poles."""
    length = inputs.shape[-2]
    powers = poles ** torch.arange(length)[:, None]
    if inputs.is_complex():
        spectrum = torch.fft.fft(powers, 2 * length, dim=-2)
        spectra = torch.fft.fft(inputs, 2 * length, dim=-2)
        return torch.fft.ifft(spectrum * spectra, dim=-2)[..., :length, :]
    spectrum = torch.fft.rfft(powers, 2 * length, dim=-2)
    spectra = torch.fft.rfft(inputs, 2 * length, dim=-2)
    return torch.fft.irfft(spectrum * spectra, 2 * length, dim=-2)[..., :length, :]


def log_step_scan(poles: Tensor, inputs: Tensor) -> Tensor:
    """⌈log2 L⌉ passes over all steps."""
    states, power, shift = inputs, poles, 1
    while shift < inputs.shape[-2]:
        moved = states[..., shift:, :] + power * states[..., :-shift, :]
        states = torch.cat([states[..., :shift, :], moved], dim=-2)
        power, shift = power * power, 2 * shift
    return states


def odd_even_scan(poles: Tensor, inputs: Tensor) -> Tensor:
    """The scheme of associative scans, O(L) work: states of odd steps by recursion on half as many,
    those of even steps from them."""
    if inputs.shape[-2] < 2:
        return inputs
    even, odd = inputs[..., 0::2, :], inputs[..., 1::2, :]
    at_odd = odd_even_scan(poles * poles, odd + poles * even[..., : odd.shape[-2], :])
    first, later = even[..., :1, :], even[..., 1:, :]
    at_even = torch.cat([first, later + poles * at_odd[..., : later.shape[-2], :]], dim=-2)
    states = torch.stack([at_even[..., : odd.shape[-2], :], at_odd], dim=-2).flatten(-3, -2)
    return torch.cat([states, at_even[..., odd.shape[-2] :, :]], dim=-2)


CONTESTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lticore": linear_recurrence,
    "fft_convolution": convolution,
    "log_step_scan": log_step_scan,
    "odd_even_scan": odd_even_scan,
}


def recurrence_row(form: tuple[int, int, int], dtype: torch.dtype, rounds: int) -> dict:
    n = form[-1]
    torch.manual_seed(0)
    inputs, cotangent = (torch.randn(form, dtype=dtype) for _ in range(2))
    phase = torch.rand(n) * (3 if dtype.is_complex else 0)
    poles = (
        torch.polar(torch.full((n,), 0.99), phase) if dtype.is_complex else torch.full((n,), 0.99)
    )
    tensors = [poles.requires_grad_(), inputs.requires_grad_()]

    def run(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(*tensors), tensors, cotangent)

    expected, *others = (
        torch.autograd.grad(f(*tensors).abs().sum(), poles)[0] for f in CONTESTANTS.values()
    )
    for found in others:
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2 * expected.abs().max())
    bandwidth = machine.copy_bandwidth()
    calls = {name: run(function) for name, function in CONTESTANTS.items()}
    calls["forward"] = lambda: linear_recurrence(*(x.detach() for x in tensors))
    turns = machine.turns(calls, rounds)
    medians = {name: statistics.median(times) for name, times in turns.items()}
    fastest = min(turns["lticore"])
    # Forward reads u and writes x; backward reads g and x and writes v.
    moved = 5 * inputs.nbytes
    return report(
        {
            "form": list(form),
            "dtype": str(dtype).removeprefix("torch."),
            **{f"{name}_milliseconds": round(1e3 * t, 3) for name, t in medians.items()},
            "fastest_milliseconds": round(1e3 * fastest, 3),
            "megabytes_moved": round(moved / 1e6, 1),
            "copy_gigabytes_per_second": round(bandwidth / 1e9, 1),
            "times_memory_limit": round(fastest * bandwidth / moved, 2),
            **{
                f"times_faster_than_{name}": round(medians[name] / medians["lticore"], 1)
                for name in ("fft_convolution", "log_step_scan", "odd_even_scan")
            },
            "bars": {"fft": BAR_CONVOLUTION, "scan": BAR_SCAN, "memory": BAR_MEMORY}
            if form == FORMS[0] and dtype.is_complex
            else None,
        }
    )


def map_row(batch: int, length: int, order: int, width: int, rounds: int) -> dict:
    """The map of a rotation layer: milliseconds, and megabytes kept for the backward pass."""
    torch.manual_seed(0)
    poles = torch.polar(torch.full((order // 2,), 0.99), torch.rand(order // 2)).requires_grad_()
    B, C = (torch.randn(s, requires_grad=True) for s in ((order, width), (width, order)))
    u = torch.randn(batch, length, width, requires_grad=True)
    tensors = (poles, torch.empty(0), B, C, u)
    given = {x.data_ptr() for x in tensors}

    def run(keep: bool) -> Tensor:
        y = state_space_map(*tensors, keep_states=keep)
        y.backward(torch.ones_like(y))
        return y

    def kept(keep: bool) -> float:
        sizes = []

        def pack(x: Tensor) -> Tensor:
            if x.data_ptr() not in given:
                sizes.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            state_space_map(*tensors, keep_states=keep)
        return sum(sizes) / 1e6

    names = {"all_states": True, "one_state_in_64": False}
    times = machine.interleaved({k: (lambda keep=v: run(keep)) for k, v in names.items()}, rounds)
    return report(
        {
            "batch": batch,
            "length": length,
            "order": order,
            "width": width,
            **{f"{k}_milliseconds": round(1e3 * t, 2) for k, t in times.items()},
            **{f"{k}_megabytes_kept": round(kept(v), 2) for k, v in names.items()},
            **{
                f"{k}_megabytes_at_peak": peak_megabytes(batch, length, order, width, v)
                for k, v in names.items()
            },
        }
    )


def peak_megabytes(batch: int, length: int, order: int, width: int, keep: bool) -> float:
    """How far one forward and backward pass lifts the peak of a fresh process' resident memory
    above that of the same pass over 64 steps."""
    code = f"""
import resource, torch
from lticore_torch import state_space_map
def run(length):
    B, C = torch.randn({order}, {width}).requires_grad_(), torch.randn({width}, {order})
    poles = torch.polar(torch.full(({order} // 2,), 0.99), torch.rand({order} // 2))
    u = torch.randn({batch}, length, {width})
    y = state_space_map(poles, torch.empty(0), B, C, u, keep_states={keep})
    y.backward(torch.ones_like(y))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = run(64)
print((run({length}) - first) / 1e3)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(float(found.stdout), 1)


def report(row: dict) -> dict:
    known = {key: value for key, value in row.items() if value is not None}
    print("  ".join(f"{key} {value}" for key, value in known.items()), flush=True)
    return known


def main(options: Options) -> None:
    result = {
        "machine": machine.describe("lticore", "numpy", "numba", "torch"),
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "recurrence": [
            recurrence_row(form, dtype, options.rounds) for dtype in DTYPES for form in FORMS
        ],
        "map": [map_row(*sizes, 5) for sizes in ((50, 784, 128, 128), (4, 16384, 128, 128))],
    }
    print("written to", machine.write("recurrence", result))


if __name__ == "__main__":
    main(tyro.cli(Options))
