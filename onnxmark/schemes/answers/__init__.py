"""Marks in what a model answers: *ingrain*, whose labels are coins of the key, and plain trigger sets."""
