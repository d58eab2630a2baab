"""Runtimes that answer requests with a specialist."""
