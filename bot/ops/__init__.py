"""Keeping friend up, and seeing how it does: logs, metrics, health, supervision."""
