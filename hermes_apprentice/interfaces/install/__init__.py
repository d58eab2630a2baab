"""Puts Apprentice into a Hermes, and takes it out again."""
