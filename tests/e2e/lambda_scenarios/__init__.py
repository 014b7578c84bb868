"""The model server as a Lambda function: the real runtime in the emulator's environments."""
