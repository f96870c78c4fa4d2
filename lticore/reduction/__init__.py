"""Reductions: from a system to a smaller one with a stated error."""
