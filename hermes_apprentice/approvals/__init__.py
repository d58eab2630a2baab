"""Asks the operator, understands the reply, and keeps the outbox."""
