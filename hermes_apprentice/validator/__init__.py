"""Scores what will be served, and decides whether it may be."""
