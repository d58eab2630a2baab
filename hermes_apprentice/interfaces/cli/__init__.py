"""The `apprentice` command."""
