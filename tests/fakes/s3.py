"""S3 on loopback: moto's server, with one empty bucket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer


@contextmanager
def fake_s3(bucket: str) -> Iterator[str]:
    """Gives the server's address, for AWS_ENDPOINT_URL_S3."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request else
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        urlopen(Request(f"http://{host}:{port}/{bucket}", method="PUT"), timeout=10).close()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
