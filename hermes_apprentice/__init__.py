"""Apprentice: small, proven specialists for the requests a Hermes Agent keeps answering."""

__version__ = "0.1.0"
