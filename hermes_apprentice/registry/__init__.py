"""Signed, immutable versions of specialists and of the matcher."""
