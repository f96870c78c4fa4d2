"""Classifiers of residual blocks."""
