"""Apprentice's own SQLite database and atomic files."""
