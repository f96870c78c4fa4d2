"""Systems, the structures of their state matrices, and their modes."""
