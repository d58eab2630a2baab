"""Frozen values and pure rules: the words that every part of the product shares."""
