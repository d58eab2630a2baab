"""Trains specialists in child processes."""
