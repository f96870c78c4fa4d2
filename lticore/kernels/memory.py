"""How much main memory there is."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path


@cache
def main_memory() -> float:
    """Bytes that this process may take as far as the system says, else infinity."""
    total, container = math.inf, Path("/sys/fs/cgroup/memory.max")
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = container.read_text().strip() if container.is_file() else "max"
    return total if limit == "max" else min(total, float(limit))
