"""Lines of a file, plain or compressed with zstd: a cut-off archive does not pass for a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import zstandard

_READ_AT_ONCE = 1 << 20  # bytes


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of `path`, decompressed if its name ends in .zst.

    Raises:
        OSError: it cannot be read, or the archive ends too early. (zstandard's own stream reader
            takes the end of the file for the end of the data.)
        zstandard.ZstdError: it is no archive, or a damaged one.
    """
    with path.open("rb") as file:
        if path.suffix.casefold() != ".zst":
            yield from file
            return
        rest = b""
        frame = None
        while packed := file.read(_READ_AT_ONCE):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                *lines, rest = (rest + frame.decompress(packed)).split(b"\n")
                for line in lines:
                    yield line + b"\n"
                packed = frame.unused_data
                if frame.eof:
                    frame = None
        if frame is not None:
            raise OSError("the archive is cut off")
        if rest:
            yield rest
