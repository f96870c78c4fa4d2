"""Training of a sequence classifier: one loop, from top to bottom.

    python -m experiments train --data.name smnist --model.depth 4 --model.order 128 ...
    torchrun --nproc-per-node 4 -m experiments train ...      # one process per device

A run is a folder (runs.py) and can be killed at any moment: the same command goes on from the last
checkpoint and, on the CPU, writes the same metrics, bit for bit. A finished run is not run again.
"""

from __future__ import annotations

import atexit
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

import lticore
from lticore.errors import ArgumentError
from lticore_torch import HankelTracker, ReductionEvent
from lticore_torch.layers import state_space_layers

from .config import RunConfig, Runtime, check_name
from .data import DATASETS
from .loading import describe, load_data
from .runs import (
    MetricsLog,
    claimed,
    failure_of,
    load_checkpoint,
    log,
    open_run,
    provenance,
    run_folder,
    save_checkpoint,
    summary_of,
    write_json,
)
from .training import (
    build_compressor,
    build_model,
    build_regularizer,
    epoch_order,
    evaluate,
    on_device,
    parameter_groups,
    predict,
    rate_factor,
    steps_per_epoch,
    total_steps,
)


def train(
    config: RunConfig,
    runtime: Runtime | None = None,
    folder: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train, test, and return the summary; what an earlier call has done is not done again.

    ``stop`` is asked after every step whether to write a checkpoint and end there (by a single
    process; of several each would have to get the same answer).

    Raises
    ------
    ArgumentError
        For a device that is not there, while another process trains in the same folder, and for
        penalties, reductions and records that the model's layers do not know; before the first
        step.
    FloatingPointError
        When loss or gradient is no longer finite: the last checkpoint is kept, failed.json and
        log.txt give the reason, and calling again raises again.
    KeyboardInterrupt
        After the checkpoint that ``stop`` asked for.
    """
    check_name("data set", config.data.name, DATASETS)  # before a folder is named after it
    runtime = runtime or Runtime()
    folder = folder or run_folder(config)
    if (done := summary_of(folder)) is not None:
        open_run(folder, config)
        return done
    if (failure := failure_of(folder)) is not None:
        raise FloatingPointError(f"{failure['reason']} (remove {folder} to try again)")
    rank, processes, device = _start_process(runtime)
    if rank > 0:
        return _train(config, runtime, folder, rank, processes, device, stop)
    with claimed(folder):
        provenance()  # the commit of the code that is loaded now, not of one made meanwhile
        open_run(folder, config)
        return _train(config, runtime, folder, rank, processes, device, stop)


def _train(
    config: RunConfig,
    runtime: Runtime,
    folder: Path,
    rank: int,
    processes: int,
    device: torch.device,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    # ---- threads, seeds
    first = rank == 0
    _set_threads(runtime.threads or torch.get_num_threads())
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002
    torch.manual_seed(config.seed)

    # ---- data, model, optimizer
    data = load_data(config.data)
    facts = describe(data)
    total = total_steps(config.budget, len(data.train))
    per_epoch = steps_per_epoch(config.budget, len(data.train))
    model = build_model(config.model, facts).to(device)
    regularizer = build_regularizer(config.regularizer, model)
    if processes > 1:  # the same model everywhere, but each process has its own dropout
        torch.manual_seed(config.seed + 1_000_003 * rank)

    # ---- where an earlier call was interrupted
    state = load_checkpoint(folder)
    if state is not None:
        model.load_state_dict(state["model"])  # layers take the orders they were saved with
    optimizer = torch.optim.AdamW(parameter_groups(model, config.optimizer))
    peaks = [group["lr"] for group in optimizer.param_groups]
    compressor = build_compressor(
        model, optimizer, config.reduction, lambda: evaluate(model, data.validation)[1]
    )
    tracker = _tracker(model, config)
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(config.optimizer.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
    start, seconds, metrics_length = 0, 0.0, 0
    best: dict[str, Any] = {"accuracy": -1.0, "model": None, "step": 0}
    events: list[dict[str, Any]] = []
    sums = {"loss": 0.0, "penalty": 0.0, "right": 0, "seen": 0, "steps": 0}
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        regularizer.calls = state["penalties"]
        if compressor is not None:
            compressor.load_state_dict(state["compressor"])
        if tracker is not None:
            tracker.load_state_dict(state["tracker"])
        start, seconds, metrics_length = state["step"], state["seconds"], state["metrics_length"]
        best, events, sums = state["best"], state["events"], state["sums"]
        _restore_random(state["random"], rank)

    parallel = _parallel(model, processes, device, runtime)
    metrics = MetricsLog(folder, metrics_length) if first else None
    board = _tensorboard(folder, start) if first and runtime.tensorboard else None
    bar = tqdm(
        total=total,
        initial=start,
        desc=config.slug.rsplit("-", 1)[0],
        unit="step",
        disable=not (first and runtime.progress),
        mininterval=0.5,
    )
    if first:
        log(folder, f"{'resumed' if start else 'started'} at step {start} of {total} on {device}")
    last_checkpoint = time.monotonic()

    def record(numbers: dict[str, Any]) -> None:
        """A line of numbers, to files and tensorboard."""
        if metrics is not None:
            metrics.write(numbers, seconds)
        if board is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float) and name != "step":
                    board.add_scalar(name, value, numbers["step"])

    def fail(reason: str) -> FloatingPointError:
        """Nothing is saved any more: the last checkpoint is the last good one."""
        if first:
            kept = load_checkpoint(folder)
            at = f"the checkpoint of step {kept['step']}" if kept else "no checkpoint"
            write_json(folder / "failed.json", {"reason": reason, "kept": at})
            log(folder, f"stopped: {reason}; kept {at}")
        if processes > 1:
            # All meet the same number. The end of one makes the launcher end the others: not before
            # the first has written why.
            torch.distributed.barrier()
        return FloatingPointError(reason)

    # ---- the loop
    model.train()
    order = epoch_order(config.seed, start // per_epoch, len(data.train))
    for step in range(start, total):
        clock = time.perf_counter()
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = epoch_order(config.seed, epoch, len(data.train))
        factor = rate_factor(config.schedule, step, total)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor

        size = config.budget.batch_size
        indices = order[position * size : (position + 1) * size]
        # All processes take part in every step; one without an example takes one that counts 0.
        mine = indices[rank::processes] if rank < len(indices) else indices[:1]
        batch = on_device(data.train.batch(mine), device)
        with torch.autocast(device.type, half) if half else nullcontext():
            logits = predict(parallel, batch)
            # Each process's share of the batch counts by its size; gradients are then averaged.
            loss = functional.cross_entropy(logits.float(), batch.labels, reduction="sum")
            loss = loss * (processes / len(indices) if rank < len(indices) else 0.0)
        penalty = regularizer(parallel)
        right = (logits.argmax(-1) == batch.labels).sum() * (rank < len(indices))
        step_loss, step_penalty, step_right = _average([loss, penalty, right], processes)
        if not math.isfinite(step_loss + step_penalty):
            raise fail(
                f"the loss became {step_loss} + {step_penalty} (penalty) in step {step + 1}, "
                f"epoch {epoch + 1}: lower the learning rate or the regularisation"
            )
        optimizer.zero_grad()
        scaler.scale(loss + penalty).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip or float("inf"))
        if not (torch.isfinite(norm) or scaler.is_enabled()):
            raise fail(f"the gradient became {norm.item()} in step {step + 1}, epoch {epoch + 1}")
        scaler.step(optimizer)
        scaler.update()

        sums["loss"] += step_loss
        sums["penalty"] += step_penalty
        sums["right"] += round(step_right * processes)
        sums["seen"] += len(indices)
        sums["steps"] += 1
        now = step + 1

        # ---- in-training reduction
        if compressor is not None and (event := compressor.step()) is not None:
            numbers = _event_numbers(event)
            events.append(numbers | {"seconds": event.seconds})
            record(numbers)
            if first:
                what = "rolled back, orders" if event.rolled_back else "orders"
                log(folder, f"step {now}: {what} {event.orders_before} → {event.orders}")
            best["accuracy"] = -1.0
            parallel = _parallel(model, processes, device, runtime)  # it has new parameters
        seconds += time.perf_counter() - clock

        # ---- what is written down
        if tracker is not None and (now % config.budget.track_every == 0 or now == total):
            hankel = {name: one.to_dict() for name, one in tracker.record(now).items()}
            record({"step": now, "hankel": hankel})
        every = config.budget.evaluate_every
        if every and (now % every == 0 or now == total):
            validation_loss, validation = evaluate(model, data.validation)
            record(
                {"step": now, "validation_loss": validation_loss, "validation_accuracy": validation}
            )
            if config.budget.keep == "best" and validation > best["accuracy"]:
                weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
                best = {"accuracy": validation, "model": weights, "step": now}
        if now % runtime.log_every == 0 or now == total:
            orders = [layer.order for layer in state_space_layers(model).values()]
            numbers = {
                "step": now,
                "epoch": epoch + 1,
                "loss": sums["loss"] / sums["steps"],
                "penalty": sums["penalty"] / sums["steps"],
                "accuracy": sums["right"] / sums["seen"],
                "learning_rate": factor * peaks[0],
                "order": sum(orders) / len(orders),
            }
            record(numbers)
            bar.set_postfix_str(
                f"loss {numbers['loss']:.3f}, accuracy {numbers['accuracy']:.3f}, "
                f"order {numbers['order']:.0f}, {now * size / max(seconds, 1e-9):.0f} sequences/s",
                refresh=False,
            )
            sums = {"loss": 0.0, "penalty": 0.0, "right": 0, "seen": 0, "steps": 0}
        bar.update()

        # ---- checkpoint
        stopping = stop()
        if _due(last_checkpoint, runtime, processes, device) or now == total or stopping:
            states = _gather_random(processes)
            if metrics is not None:
                save_checkpoint(
                    folder,
                    {
                        "step": now,
                        "total": total,
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scaler": scaler.state_dict(),
                        "penalties": regularizer.calls,
                        "compressor": compressor.state_dict() if compressor is not None else None,
                        "tracker": tracker.state_dict() if tracker is not None else None,
                        "random": states,
                        "best": best,
                        "events": events,
                        "sums": sums,
                        "seconds": seconds,
                        "metrics_length": metrics.secure(),
                    },
                )
            last_checkpoint = time.monotonic()
        if stopping and now < total:
            bar.close()
            log(folder, f"stopped at step {now} of {total}, as asked")
            raise KeyboardInterrupt(f"{folder} at step {now} of {total}; run it again to go on")
    bar.close()

    # ---- the test, once
    if best["model"] is not None and best["accuracy"] >= 0:
        model.load_state_dict(best["model"])
    test_loss, test = evaluate(model, data.test)
    summary = {
        "status": "finished",
        "slug": config.slug,
        "test_accuracy": test,
        "test_loss": test_loss,
        "tested_step": best["step"] if best["model"] is not None else total,
        "steps": total,
        "orders": [layer.order for layer in state_space_layers(model).values()],
        "parameters": sum(p.numel() for p in model.parameters()),
        "reductions": events,
        "training_seconds": round(seconds, 2),
        "data": facts,
        "device": str(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        **provenance(),
    }
    if metrics is not None:
        save_checkpoint(folder, {"step": total, "model": model.state_dict()}, "model.pt")
        write_json(folder / "summary.json", summary)
        (folder / "previous.pt").unlink(missing_ok=True)
        log(folder, f"finished: test accuracy {test:.4f}")
    if board is not None:
        board.close()
    if processes > 1:
        torch.distributed.barrier()
    return summary


def load_trained(folder: Path, config: RunConfig) -> nn.Module:
    """The tested model of a finished run, in evaluation mode on the CPU.

    Raises
    ------
    ArgumentError
        When the run has not finished.
    """
    summary, state = summary_of(folder), load_checkpoint(folder, "model.pt")
    if summary is None or state is None:
        raise ArgumentError(f"the run in {folder} has not finished: train it first")
    model = build_model(config.model, summary["data"])
    model.load_state_dict(state["model"])
    return model.eval()


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Around training in several processes: skip what Python does at the end of this one. While
    torch's Gloo is taken down, its threads can wait for each other for ever."""

    def leave(code: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    code: Any = 1
    try:
        yield
        code = 0
    except SystemExit as end:  # submitit's, which tells by the code that it wants another start
        code = end.code
        raise
    finally:
        atexit.register(leave, code)


def _start_process(runtime: Runtime) -> tuple[int, int, torch.device]:
    """(rank, number of processes, device); joins the group when started by torchrun."""
    cuda = torch.cuda.is_available()
    if runtime.device.startswith("cuda") and not cuda:
        raise ArgumentError(
            f'device="{runtime.device}", but torch sees no CUDA device: use device="cpu", or '
            "install a CUDA build of torch and check nvidia-smi"
        )
    name = ("cuda" if cuda else "cpu") if runtime.device == "auto" else runtime.device
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f'device="{name}" is not "auto", "cpu", "cuda" or "cuda:1"') from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(
            f'device="{name}", but torch sees {torch.cuda.device_count()} CUDA devices, from 0 on'
        )
    if processes == 1:
        return 0, 1, device
    if name == "cuda":
        name = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(name)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if name.startswith("cuda") else "gloo")
    return torch.distributed.get_rank(), processes, torch.device(name)


def _set_threads(threads: int) -> None:
    """Threads of torch, for good: when Numba's pool starts, it changes OpenMP's number of threads
    for torch too, and with it the rounding of sums. So it starts here, before the first step."""
    lticore.linear_recurrence(np.zeros(1), np.zeros((1, 1, 1)))
    torch.set_num_threads(threads)


def _parallel(
    model: nn.Module, processes: int, device: torch.device, runtime: Runtime
) -> nn.Module:
    """The model as the loop calls it; to be made again when its parameters were replaced."""
    if processes > 1:
        devices = [device.index] if device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=devices)
    if runtime.compile:
        model.compile()
    return model


def _average(values: list[Tensor], processes: int) -> list[float]:
    """Each of the numbers, averaged over the processes; waits for the device once."""
    stacked = torch.stack([value.detach().double() for value in values])
    if processes > 1:
        torch.distributed.all_reduce(stacked)
        stacked /= processes
    return stacked.tolist()


def _tracker(model: nn.Module, config: RunConfig) -> HankelTracker | None:
    return HankelTracker(model) if config.budget.track_every else None


def _event_numbers(event: ReductionEvent) -> dict[str, Any]:
    """What a reduction did, without its time."""
    return {
        "step": event.step,
        "orders_before": event.orders_before,
        "orders": event.orders,
        "energies": event.energies,
        "rolled_back": event.rolled_back,
    }


def _due(last: float, runtime: Runtime, processes: int, device: torch.device) -> bool:
    """Whether a checkpoint is due; the first process decides for all."""
    due = time.monotonic() - last >= 60 * runtime.checkpoint_minutes
    if processes == 1:
        return due
    flag = torch.tensor([due], dtype=torch.uint8, device=device)
    torch.distributed.broadcast(flag, 0)
    return bool(flag.item())


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def _gather_random(processes: int) -> list[dict[str, Any]]:
    """The random state of every process, in the first."""
    if processes == 1:
        return [_random_state()]
    states: list[Any] = [None] * processes
    torch.distributed.all_gather_object(states, _random_state())
    return states


def _restore_random(states: list[dict[str, Any]], rank: int) -> None:
    if rank >= len(states):
        return  # resumed with more processes: not the same numbers, but as good
    torch.set_rng_state(states[rank]["torch"])
    if states[rank]["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[rank]["cuda"])


def _tensorboard(folder: Path, start: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
