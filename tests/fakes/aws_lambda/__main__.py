"""Run a Lambda function here until Ctrl-C; the first line on stdout has its addresses.

    python -m tests.fakes.aws_lambda --port 9000 --memory-mb 1769 --timeout 30 \\
        -- python -m lambda_inference.aws.runtime
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal

from tests.fakes.aws_lambda import Container, LambdaEmulator, Limits
from tests.fakes.aws_signature import AwsKeys


async def _serve(options: argparse.Namespace) -> None:
    keys = None
    if options.access_key:
        keys = AwsKeys(
            options.access_key, options.secret_key, options.session_token, region=options.region
        )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LambdaEmulator(
        options.command,
        environment=dict(one.split("=", 1) for one in options.env),
        memory_mb=options.memory_mb,
        timeout_s=options.timeout,
        concurrency=options.concurrency,
        idle_s=options.idle,
        freeze=not options.no_freeze,
        snapstart=options.snapstart,
        cpus=options.cpus,
        container=Container.of(shlex.split(options.container)) if options.container else None,
        keys=keys,
        invoke_mode="BUFFERED" if options.buffered else "RESPONSE_STREAM",
        port=options.port,
        invoke_port=options.invoke_port,
        limits=Limits(init_s=options.init),
        echo=True,
    ) as function:
        print(json.dumps({"url": function.url, "invoke_url": function.invoke_url}), flush=True)
        await stop.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="of the Function URL; 0: any free one")
    parser.add_argument("--invoke-port", type=int, default=0, help="of the Invoke API")
    parser.add_argument("--memory-mb", type=int, default=1769)
    parser.add_argument("--cpus", type=int, help="CPUs it may use; else what the memory gives")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds")
    parser.add_argument("--init", type=float, default=10.0, help="seconds")
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--idle", type=float, default=300.0, help="seconds until it is ended")
    parser.add_argument("--buffered", action="store_true", help="InvokeMode BUFFERED")
    parser.add_argument("--snapstart", action="store_true")
    parser.add_argument("--no-freeze", action="store_true")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--access-key", help="AuthType AWS_IAM, with this one identity")
    parser.add_argument("--secret-key", default="")
    parser.add_argument("--session-token")
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument(
        "--container",
        help="the engine ('podman --root ...') that freezes and ends what the command runs under "
        "the name {environment}",
    )
    parser.add_argument("command", nargs="+", help="after --: what starts the runtime")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
