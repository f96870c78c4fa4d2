"""Changes of coordinates and representation that keep the input-output map."""
