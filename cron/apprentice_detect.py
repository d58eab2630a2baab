"""Scheduled by Hermes (no agent): read new sessions and look for patterns."""

from hermes_apprentice.interfaces.cron_jobs import detect

if __name__ == "__main__":
    raise SystemExit(detect())
