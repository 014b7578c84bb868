"""What produces every number in the docs."""
