"""Smaller models, after training and during it."""
