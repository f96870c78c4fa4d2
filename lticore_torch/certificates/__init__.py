"""How far a compressed model can be from the whole one."""
