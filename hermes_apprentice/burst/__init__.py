"""The same training run on a rented GPU."""
