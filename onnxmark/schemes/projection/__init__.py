"""Uchida's linear projection, with every key and carrier of ours: reading, its nulls, and embedding in closed form."""
