"""How the constant weight code stands up to pruning, and what it costs."""
