"""Reduction by descent of the h2 error."""
