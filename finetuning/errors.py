"""Every error of the fine-tuning package.

FinetuneError
├── CorpusError       a data file cannot be read, or holds too little
├── CheckpointError   a checkpoint or model folder is missing, broken or of another shape
├── EvaluationError   a model cannot be measured
├── DivergedError     the loss is no longer a finite number
├── OutOfMemoryError  the run does not fit; the text says which setting to change
└── TrackerError      TensorBoard or Weights & Biases is missing or does not start
"""


class FinetuneError(Exception):
    """Base of all errors a person can meet here; the text says what to do."""


class CorpusError(FinetuneError):
    """A data file cannot be read, or holds too few usable conversations."""


class CheckpointError(FinetuneError):
    """A checkpoint or model folder is missing, broken or of another shape."""


class EvaluationError(FinetuneError):
    """A model cannot be measured; the text says why."""


class DivergedError(FinetuneError):
    """The loss stopped being a finite number."""


class OutOfMemoryError(FinetuneError):
    """The run does not fit into memory; the text says which setting to change."""


class TrackerError(FinetuneError):
    """A package that shows the curve elsewhere is missing or does not start."""
