"""Hankel singular values while a model trains."""
