"""Trained models where they are used: step by step, and without this library."""
