"""Every error of the fine-tuning package.

FinetuneError
├── CorpusError       a data file cannot be read, or holds too little
├── CheckpointError   a checkpoint or model folder is missing, broken or of another shape
└── DivergedError     the loss is no longer a finite number
"""


class FinetuneError(Exception):
    """Base of all errors a person can meet here; the text says what to do."""


class CorpusError(FinetuneError):
    """A data file cannot be read, or holds too few usable conversations."""


class CheckpointError(FinetuneError):
    """A checkpoint or model folder is missing, broken or of another shape."""


class DivergedError(FinetuneError):
    """The loss stopped being a finite number."""
