"""Whole paths: real clients on wire-level fakes, the real core, store and HTTP."""
