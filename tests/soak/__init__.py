"""Random systems through every public function, against 120 digits: ``make soak``.

draws → exact (the oracle) → judge (tolerances, verdicts) → checks → conversions (checks of other
forms and times) → __main__ (the run).
"""
