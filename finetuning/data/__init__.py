"""From conversations on disk to packed rows of tokens."""
