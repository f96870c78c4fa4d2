"""The run: random systems for a given time, failures as they come, a table at the end."""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from . import conversions  # noqa: F401
from .checks import CHECKS
from .draws import build, draw_recipe, structure_arrays
from .judge import VERDICTS, Case, Foreign, Refused, Wrong


@dataclass(frozen=True)
class Options:
    """Random systems through every public function, against 120 digits."""

    seconds: float = 1200.0
    """How long to run."""
    seed: int = 0
    """Of all draws."""
    only: int | None = None
    """The number of one draw, to see it again; all functions then run on it."""
    function: str | None = None
    """The name of one function."""
    share: float = 0.3
    """The share of functions that each system meets."""
    loud: bool = False
    """Print needless warnings as well."""


def verdict(name, draw, seed):
    """(verdict, what was seen) of one function on one system."""
    case = Case(draw, np.random.default_rng(seed))
    try:
        with warnings.catch_warnings():
            # Those of the calls are recorded; others would be faults of the soak.
            warnings.simplefilter("error")
            CHECKS[name](case)
            case.require_reason()
    except Refused as refusal:
        return "refused", str(refusal)
    except Foreign as error:
        return "foreign", str(error)
    except Wrong as error:
        return "wrong", f"{error} {case.warned or ''}"
    if case.loud:
        return "loud", f"error {case.error or 0:.1e}: {'; '.join(case.warned)}"
    return ("warned" if case.warned else "numpy" if case.numpy else "right"), ""


def source(draw):
    """The system as an expression, where it is short."""
    kind, arrays = structure_arrays(draw.sys.A)
    parts = [draw.sys.B, draw.sys.C, *([] if draw.sys.D is None else [draw.sys.D])]
    if sum(x.size for x in (*arrays, *parts)) > 60:
        return f"{draw.sys!r}, {draw.recipe.dtype}"
    suffix = ", np.float32" if draw.single else ""

    def text(x):
        return f"np.array({x.tolist()!r}{suffix})" if not np.iscomplexobj(x) else repr(x.tolist())

    inner = ", ".join(map(text, arrays))
    A = inner if kind == "dense" else f"lti.{kind}({inner})"
    return f"lti.LTI({A}, {', '.join(map(text, parts))})"


def run(options, out=sys.stdout):
    """The table: function → Counter of verdicts."""
    table, refusals = defaultdict(Counter), Counter()
    started, index, failures = time.monotonic(), 0, 0
    told = started
    names = [options.function] if options.function else list(CHECKS)
    while time.monotonic() - started < options.seconds:
        number = index if options.only is None else options.only
        index += 1
        rng = np.random.default_rng([options.seed, number])
        draw = build(rng, draw_recipe(rng))
        for name in names:
            seed = [options.seed, number, list(CHECKS).index(name)]
            chosen = np.random.default_rng([*seed, 1]).uniform() < options.share
            if options.only is None and options.function is None and not chosen:
                continue
            try:
                found, seen = verdict(name, draw, seed)
            except Exception:
                # A fault of the soak itself.
                found, seen = "oracle", traceback.format_exc()
            table[name][found] += 1
            if found == "refused":
                refusals[name, seen[:70]] += 1
            failed = found in ("wrong", "foreign", "oracle")
            failures += failed
            if failed or (options.loud and found == "loud"):
                print(
                    f"\n{found.upper()} {name}: {seen}\n  --seed {options.seed} --only {number} "
                    f"--function {name}\n  {draw.recipe}\n  {source(draw)}",
                    file=out,
                    flush=True,
                )
        now = time.monotonic()
        if now - told > 10:
            told = now
            print(
                f"{now - started:6.0f} s, {index} systems, {failures} failures",
                file=out,
                flush=True,
            )
        if options.only is not None:
            break
    report(table, refusals, out)
    return table


def report(table, refusals, out):
    columns = (*VERDICTS, "oracle")
    print(f"\n{'function':40}" + f"{'drawn':>8}" + "".join(f"{x:>9}" for x in columns), file=out)
    for name in CHECKS:
        row = table[name]
        if row:
            cells = "".join(f"{row[x]:9d}" for x in columns)
            print(f"{name:40}{sum(row.values()):8d}{cells}", file=out)
    spoken = {name: row["warned"] + row["loud"] for name, row in table.items()}
    for name, count in spoken.items():
        if table[name]["loud"]:
            share = table[name]["loud"] / count
            print(f"{share:6.0%} of {count} warnings of {name} were needless", file=out)
    print("\nrefusals", file=out)
    for (name, seen), count in sorted(refusals.items()):
        print(f"{count:6d}  {name}: {seen}", file=out)


def main():
    import tyro

    table = run(tyro.cli(Options))
    sys.exit(any(row["wrong"] + row["foreign"] + row["oracle"] for row in table.values()))


if __name__ == "__main__":
    main()
