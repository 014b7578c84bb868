"""Run the model server on this machine.

A parent process starts it with `--announce --exit-with-stdin`: one JSON line with the URL comes on
stdout when the port is open (the model may still be loading), and when the parent dies, however it
dies, its end of the pipe closes and the server goes too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import uvicorn

from lambda_inference.errors import InferenceError, SettingsError
from lambda_inference.model import describe
from lambda_inference.serving.host import check_states, host_for
from lambda_inference.serving.http import create_app
from lambda_inference.settings import ModelSettings, ServerSettings, model_path

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m lambda_inference serve`; gives the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        server, model = _settings(options)
        serve(server, model, announce=options.announce, exit_with_stdin=options.exit_with_stdin)
    except InferenceError as error:
        print(f"friend serve: {error}", file=sys.stderr)
        return 1
    return 0


def serve(
    server: ServerSettings,
    model: ModelSettings,
    *,
    announce: bool = False,
    exit_with_stdin: bool = False,
) -> None:
    """Listen and answer until SIGTERM or SIGINT, then let replies under way end.

    Raises:
        SettingsError: the address is taken, or open to others without a key.
        ModelError: there is no model, its description is broken, or a learnt state does not fit
            it. Whether its weights are sound shows later: `/healthz` tells.
    """
    check_exposure(server)
    check_states(model, describe(model_path(model)))
    listener = _listen(server.host, server.port)
    host = host_for(server, model)
    config = uvicorn.Config(
        create_app(server, host),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=server.drain_seconds,
        timeout_keep_alive=30,
        ws="none",
    )
    url = _url(listener)

    def ready() -> None:
        _log.info("listening on %s", url)
        if announce:
            print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)

    runner = _Server(config, ready)
    if exit_with_stdin:
        threading.Thread(target=runner.stop_with_stdin, name="stdin", daemon=True).start()
    with contextlib.closing(listener):
        asyncio.run(runner.serve(sockets=[listener]))
    # Not closed: a request that outlived the drain may still be inside the engine.
    _log.info("stopped")


def check_exposure(server: ServerSettings) -> None:
    """Refuse to answer strangers without a key.

    Raises:
        SettingsError: says what to set.
    """
    if not server.key and not is_loopback(server.host):
        raise SettingsError(
            f"Listening on {server.host} would let anybody use the model. Set FRIEND_SERVER_KEY to "
            "a long random text that clients send as bearer key, or listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """uvicorn, telling when it listens, and ending with exit code 0 on a signal."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT; uvicorn's own would raise the signal again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        watched = (signal.SIGTERM, signal.SIGINT)
        before: dict[int, Any] = {
            number: signal.signal(number, self.handle_exit) for number in watched
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_with_stdin(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 4096):
                pass
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}. Choose another with "
            "FRIEND_SERVER_HOST and FRIEND_SERVER_PORT, or port 0 for any free one."
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _settings(options: argparse.Namespace) -> tuple[ServerSettings, ModelSettings]:
    server = ServerSettings.from_environment()
    model = ModelSettings.from_environment()
    given = {"host": options.host, "port": options.port}
    server = replace(server, **{name: value for name, value in given.items() if value is not None})
    given = {
        "file": options.model,
        "state": options.state,
        "threads": options.threads,
        "engine": options.engine,
    }
    model = replace(model, **{name: value for name, value in given.items() if value is not None})
    return server, model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="friend serve",
        description="Serve a model over OpenAI's chat-completions wire.",
    )
    parser.add_argument("--host", help="address to listen on (FRIEND_SERVER_HOST)")
    parser.add_argument("--port", type=int, help="port, 0 for a free one (FRIEND_SERVER_PORT)")
    parser.add_argument("--model", help="model file or folder (FRIEND_MODEL_FILE)")
    parser.add_argument(
        "--state", help="learnt initial state, or a folder of them (FRIEND_MODEL_STATE)"
    )
    parser.add_argument("--engine", choices=("auto", "native", "reference"))
    parser.add_argument("--threads", type=int, help="threads of the engine, 0 for all CPUs given")
    parser.add_argument("--announce", action="store_true", help="print one JSON line when ready")
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="stop when standard input closes"
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    return parser
