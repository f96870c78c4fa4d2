"""Operations with gradients, on arrays of the core."""
