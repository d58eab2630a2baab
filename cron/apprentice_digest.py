"""Scheduled by Hermes (no agent): once a week, put the week's digest into the outbox."""

from hermes_apprentice.interfaces.cron_jobs import digest

if __name__ == "__main__":
    raise SystemExit(digest())
