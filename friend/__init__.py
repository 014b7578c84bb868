"""The `friend` command: the one package that may import every house."""
