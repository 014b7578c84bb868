"""S3 on loopback: moto's server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer


@contextmanager
def s3_server() -> Iterator[str]:
    """Gives the server's address, for AWS_ENDPOINT_URL_S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def fake_s3(bucket: str) -> Iterator[str]:
    """The same with one empty bucket, and without a line a request on the terminal."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with s3_server() as address:
        urlopen(Request(f"{address}/{bucket}", method="PUT"), timeout=10).close()
        yield address
