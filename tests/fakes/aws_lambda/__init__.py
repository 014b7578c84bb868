"""AWS Lambda on loopback: the Runtime API, the environments, a Function URL. Start at
`LambdaEmulator`; by hand: `python -m tests.fakes.aws_lambda --port 9000 -- command ...`.
"""

from __future__ import annotations

from tests.fakes.aws_lambda.emulator import LambdaEmulator
from tests.fakes.aws_lambda.environment import Container
from tests.fakes.aws_lambda.function import Report, Throttled
from tests.fakes.aws_lambda.invocation import FunctionError
from tests.fakes.aws_lambda.limits import Limits

__all__ = ["Container", "FunctionError", "LambdaEmulator", "Limits", "Report", "Throttled"]
