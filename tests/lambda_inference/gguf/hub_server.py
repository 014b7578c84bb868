"""As much of the Hugging Face Hub as `friend model pull` meets, on loopback.

`GET /api/models/REPO/revision/REV` lists files, `HEAD|GET /REPO/resolve/REV/FILE` gives checksum
and size in the headers and the content with Range honoured; large files are redirected to another
path, as the hub does to its CDN.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
LARGE = (".gguf", ".safetensors", ".pth")


@dataclass
class Hub:
    """One repository, `someone/tiny`, and its faults."""

    files: dict[str, bytes]
    url: str = ""
    checksums: dict[str, str] = field(default_factory=dict)
    """Checksums to announce in place of the true ones."""
    break_after: list[int] = field(default_factory=list)
    """For the next transfers of large files: bytes after which the connection goes."""
    stall_after: int | None = None
    """Bytes of a large file after which nothing more comes."""
    ignore_range: bool = False
    refuse: tuple[int, str] | None = None
    """Status and X-Error-Code for everything."""
    ranges: list[str | None] = field(default_factory=list)
    """Range headers of the transfers of large files."""
    tokens: set[str | None] = field(default_factory=set)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def checksum(self, name: str) -> str:
        data = self.files[name]
        if name in self.checksums:
            return self.checksums[name]
        if name.endswith(LARGE):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def _route(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        if hub.refuse is not None:
            return self._error(*hub.refuse)
        if path.startswith("/cdn/"):
            return self._content(path.removeprefix("/cdn/"), body=body)
        hub.tokens.add(self.headers.get("Authorization"))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if found[1] != "someone/tiny":
                return self._error(404, "RepoNotFound")
            if found[2] not in (None, "main", "v1", COMMIT):
                return self._error(404, "RevisionNotFound")
            listing = [{"rfilename": name} for name in hub.files]
            answer = {"id": found[1], "sha": COMMIT, "siblings": listing}
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(answer), body)
        found = re.fullmatch(rf"/someone/tiny/resolve/{COMMIT}/(.+)", path)
        if found is None or found[1] not in hub.files:
            return self._error(404, "EntryNotFound")
        name = found[1]
        if not name.endswith(LARGE):
            return self._content(name, body=body)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{hub.checksum(name)}"',
            "X-Linked-Size": str(len(hub.files[name])),
            "Location": f"{hub.url}/cdn/{name}",
        }
        return self._send(302, headers, "", body)

    def _content(self, name: str, *, body: bool) -> None:
        hub, data = self.hub, self.hub.files[name]
        large = name.endswith(LARGE)
        headers = {"ETag": f'"{hub.checksum(name)}"', "X-Repo-Commit": COMMIT}
        start, status = 0, 200
        asked = self.headers.get("Range")
        if body and large:
            hub.ranges.append(asked)
        if asked is not None and not hub.ignore_range:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, headers, data[start:], body, broken=large)

    def _error(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code}, "", True)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        content: str | bytes,
        body: bool,
        broken: bool = False,
    ) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        hub = self.hub
        if broken and hub.break_after:
            data = data[: hub.break_after.pop(0)]
            self.close_connection = True
        if broken and hub.stall_after is not None:
            self.wfile.write(data[: hub.stall_after])
            self.wfile.flush()
            hub.stalled.set()
            hub.closing.wait(30)
            self.close_connection = True
            return
        self.wfile.write(data)


@contextmanager
def hub_serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with these files, for as long as the block lasts."""
    hub = Hub(files)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
