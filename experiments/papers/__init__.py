"""The three papers: their configurations, their published numbers, ours beside them."""

from __future__ import annotations

from . import compressm, h2, hsvr

#: Papers by name; each module has TITLE, TABLES, NOTES and table(number, preset, tasks).
PAPERS = {"hsvr": hsvr, "compressm": compressm, "h2": h2}

__all__ = ["PAPERS"]
