"""The model server: an RWKV chat model behind OpenAI's chat-completions wire.

Runs on this machine (`python -m lambda_inference serve`) and in AWS Lambda
(`lambda_inference.aws.handler.handler`). Nothing is imported or built here, because a cold start
pays for every import.
"""
