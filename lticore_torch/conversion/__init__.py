"""Layers of other packages as layers of this one, inside the user's model."""
