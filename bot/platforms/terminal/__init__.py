"""The terminal: a chat window on a screen, and a plain filter in a pipe."""
