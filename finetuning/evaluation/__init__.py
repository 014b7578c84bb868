"""How good a model is: bits a byte, and what its replies are like."""
