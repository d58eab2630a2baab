"""Scheduled by Hermes (no agent): print the messages that wait for the operator."""

from hermes_apprentice.interfaces.cron_jobs import outbox

if __name__ == "__main__":
    raise SystemExit(outbox())
