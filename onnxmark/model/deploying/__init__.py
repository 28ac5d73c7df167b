"""Sending a model through somebody else's tool."""
