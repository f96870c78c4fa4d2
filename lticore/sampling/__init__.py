"""Continuous time in samples, and back."""
