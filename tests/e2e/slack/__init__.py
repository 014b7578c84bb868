"""Scenarios on Slack: slack-bolt, the core, SQLite and httpx against the fakes."""
