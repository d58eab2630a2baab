"""Reads Hermes' session database into exchanges."""
