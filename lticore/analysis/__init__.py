"""Responses and norms."""
