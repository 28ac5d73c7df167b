"""Fuzzing of the doors strangers knock at: the model reader, external data and the key loader."""
