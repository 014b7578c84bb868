"""What is remembered of a conversation, and where: memory, S3, a learnt start."""
