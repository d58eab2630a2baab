"""Prices, cost, savings and return on investment."""
