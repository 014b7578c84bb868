"""Thin adapters: each turns a platform's events into core types and carries replies back."""
