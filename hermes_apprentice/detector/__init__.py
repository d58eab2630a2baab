"""Finds the requests that keep coming back, and what their answers have in common."""
