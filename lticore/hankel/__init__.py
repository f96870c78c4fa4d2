"""Gramians and their factors, Hankel singular values, sums of them and gradients."""
