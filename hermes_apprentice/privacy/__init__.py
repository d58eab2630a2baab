"""Redaction of personal data and detection of secrets."""
