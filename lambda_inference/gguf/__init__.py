"""The model file: GGUF with weights, hyperparameters, tokenizer and chat template inside.

`reader` reads the metadata and is all that serving imports; `convert` makes a file from a
checkpoint and is the only part that needs the packages gguf and (for `.pth`) torch.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. RWKV-7 files have llama.cpp's
tensor names and metadata, so the same file runs there. RWKV-4 follows the same conventions under
an architecture name of its own, `rwkv4`.
"""
