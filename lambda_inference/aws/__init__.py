"""What only AWS Lambda needs: its runtime, and its events turned into requests."""
