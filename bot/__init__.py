"""friend's bot process: Discord, Slack and the terminal, one conversation core behind them."""
