"""A process that behaves, or misbehaves, as the model server's contract says; run as a script.

It answers every GET with its process id.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"pid": os.getpid(), "env": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fail", default="", help="die at once with these last words")
    parser.add_argument("--silent", action="store_true", help="never announce")
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--chatter", type=int, default=0, help="bytes of noise on both outputs")
    parser.add_argument("--starts", type=Path, help="file to note each start in")
    parser.add_argument("--only-once", action="store_true", help="fail if started before")
    options = parser.parse_args()
    if options.starts:
        earlier = options.starts.exists()
        with options.starts.open("a") as file:
            file.write(f"{time.monotonic()}\n")
        if earlier and options.only_once:
            sys.exit("I only start once")
    if options.fail:
        sys.exit(options.fail)
    if options.silent:
        sys.stdin.read()
        return
    if options.deaf:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), _Handler)
    print("warming up, not JSON", flush=True)
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    if options.chatter:
        for stream in (sys.stdout, sys.stderr):
            stream.write("x" * options.chatter)
            stream.flush()

    def leave() -> None:
        sys.stdin.read()
        os._exit(0)

    if not options.deaf:
        threading.Thread(target=leave, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
