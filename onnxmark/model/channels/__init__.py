"""Which axes of which tensors are the same channels, and moving them together."""
