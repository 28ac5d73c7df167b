"""A registry of models against a ring of keys: found, audited, journalled, concluded."""
