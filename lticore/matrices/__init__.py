"""Factors, means and units of matrices, without systems."""
