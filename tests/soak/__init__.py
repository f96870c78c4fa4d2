"""Random systems through every public function, against 120 digits: ``make soak``.

draws → exact (the oracle) → judge (tolerances, verdicts) → checks → __main__ (the run).
"""
