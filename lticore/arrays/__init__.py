"""What the array standard lacks."""
