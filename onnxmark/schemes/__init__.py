"""Watermarking schemes: one paper, one family of readings; they see weights and keys, never a file."""
