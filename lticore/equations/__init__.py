"""Stein equations and recurrences, and when they can be solved."""
