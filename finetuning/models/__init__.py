"""RWKV-4 and RWKV-7 in PyTorch, as they are trained."""
