"""From a base and data to a trained model in a run folder."""
