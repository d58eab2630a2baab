"""Thin adapters: command line, MCP tools, cron jobs, installation into Hermes."""
