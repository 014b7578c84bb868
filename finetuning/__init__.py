"""Data, training, evaluation and export of the models that friend speaks with."""
