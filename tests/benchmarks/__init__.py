"""The programs that make the figures in the docs."""
