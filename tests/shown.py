"""Code that pages show, run, and what they show it to print."""

import contextlib
import io
import re

import pytest

#: A block of code, and the text right behind it, which is what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.DOTALL | re.M)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def masked(text):
    """``text`` with every number replaced, and the blanks that align them folded."""
    return re.sub(r" +", " ", NUMBER.sub("#", text))


def check_blocks(page, name):
    """Run the blocks of code of a page, top to bottom in one namespace, and compare what they print
    with the text behind them: words always, numbers where no training amplifies rounding."""
    namespace, exact = {"__name__": "__main__"}, "torch" not in page
    for code, shown in BLOCK.findall(page):
        if "torch" in code:
            pytest.importorskip("torch")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), namespace)
        assert masked(printed.getvalue()) == masked(shown)
        if exact:
            check_numbers(printed.getvalue(), shown)


def check_numbers(printed, shown):
    """Numbers agree to a tenth; those of one digit and a power of ten, and below 1e-6, are sizes of
    rounding, which is another on each processor, and agree to a factor of a hundred."""
    for seen, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        size = float(expected.replace(",", ""))
        rounding = re.fullmatch(r"\de-\d+", expected)
        seen = float(seen.replace(",", ""))
        if rounding:
            assert seen <= max(100 * size, 1e-6)
            assert seen >= size / 100 or size < 1e-6
        else:
            assert seen == pytest.approx(size, rel=0.1, abs=1e-6)
