"""The model behind OpenAI's wire, on this machine or anywhere."""
