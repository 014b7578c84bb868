"""The native engine and its model file."""
