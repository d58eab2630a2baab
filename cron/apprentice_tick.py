"""Scheduled by Hermes (no agent): move every approved specialist along."""

from hermes_apprentice.interfaces.cron_jobs import tick

if __name__ == "__main__":
    raise SystemExit(tick())
