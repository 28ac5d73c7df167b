"""A registry of thousands of models against a ring of hundreds of keys."""
