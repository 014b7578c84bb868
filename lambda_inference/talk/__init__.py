"""Messages to words: prompt, tokens, sampling, and where a reply must stop."""
