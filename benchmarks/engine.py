"""Decode, prefill, start and memory of the engine, beside its peers, in one run.

    python -m benchmarks.engine [--json] [--sizes NAMES] [--threads 1,2] [--peer-python PYTHON]

A run may be made in parts: each with `--json >part.json`, then `--sizes "" --join part.json ...`
for the table and the plot of all.

Model files with the shapes of real checkpoints are made on the spot. Every figure comes from a
process of its own; the read bandwidth, the ceiling of decoding, is measured just before each and
just after, and the better of the two counts. The `rwkv` package runs where torch is installed,
llama.cpp where `--peer-python` names an interpreter that has llama-cpp-python.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.synthetic import SIZES, write_checkpoint, write_model
from lambda_inference import _native
from lambda_inference.engine.native import NativeEngine

ENGINES = ("friend", "llama.cpp", "rwkv fp32", "rwkv bf16")
_ROOT = Path(__file__).parents[1]
_BANDWIDTH_BYTES = 512 << 20
_TIMEOUT = 900  # seconds a measurement


@dataclass(frozen=True)
class Row:
    """Figures of one engine on one file with one number of threads."""

    size: str
    format: str
    engine: str
    threads: int
    decode_tokens_s: float
    prefill_tokens_s: float
    first_token_warm_s: float
    first_token_cold_s: float
    peak_mb: float
    file_mb: float
    bandwidth_gb_s: float
    share: float | None
    """Decode rate over the rate at which memory could give the weights; ours only."""


def measure(
    sizes: Sequence[str] = tuple(SIZES),
    *,
    formats: Sequence[str] = ("Q8_0", "Q4_0"),
    threads: Sequence[int] = (1, 2),
    engines: Sequence[str] = ENGINES,
    peer_python: str | None = None,
    folder: Path | None = None,
) -> Iterator[Row]:
    """Rows as they are measured. Model files are kept in `folder`, if there is one."""
    with tempfile.TemporaryDirectory(prefix="friend-bench-") as temporary:
        place = folder or Path(temporary)
        for size in sizes:
            for file, label, engine, python in _contestants(size, formats, place, peer_python):
                if engine not in engines:
                    continue
                for count in threads:
                    yield _row(size, label, engine, python, file, count)
                if folder is None and file.suffix == ".pth":
                    file.unlink(missing_ok=True)


def _contestants(
    size: str, formats: Sequence[str], folder: Path, peer_python: str | None
) -> Iterator[tuple[Path, str, str, str]]:
    for label in formats:
        file = folder / f"{size}.{label}.gguf"
        if not file.exists():
            write_model(file, SIZES[size], label)  # type: ignore[arg-type]
        yield file, label, "friend", sys.executable
        if peer_python and SIZES[size].generation == 7:
            yield file, label, "llama.cpp", peer_python
    if find_spec("rwkv") and find_spec("torch"):
        file = folder / f"{size}.pth"
        if not file.exists():
            write_checkpoint(file, SIZES[size])
        # RWKV-7 in bf16 decodes less than a token a second there.
        for label in ("fp32", "bf16") if SIZES[size].generation == 4 else ("fp32",):
            yield file, label, f"rwkv {label}", sys.executable


def _row(size: str, label: str, engine: str, python: str, file: Path, threads: int) -> Row:
    bandwidth = _native.read_bandwidth(threads, _BANDWIDTH_BYTES, 3)
    _drop(file)
    cold = _run(engine, python, file, threads)
    warm = _run(engine, python, file, threads)
    bandwidth = max(bandwidth, _native.read_bandwidth(threads, _BANDWIDTH_BYTES, 3))
    share = None
    decode = max(cold["decode_tokens_s"], warm["decode_tokens_s"])
    if engine == "friend":
        share = decode * NativeEngine(file, threads=1).bytes_per_token / bandwidth
    return Row(
        size,
        label,
        engine,
        threads,
        decode,
        max(cold["prefill_tokens_s"], warm["prefill_tokens_s"]),
        warm["first_token_s"],
        cold["first_token_s"],
        max(cold["peak_mb"], warm["peak_mb"]),
        file.stat().st_size / 1e6,
        bandwidth / 1e9,
        share,
    )


def _run(engine: str, python: str, file: Path, threads: int) -> dict[str, float]:
    command = [python, "-m", "benchmarks.engine_worker", engine, str(file), str(threads)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(  # noqa: S603
        [*command, repr(time.time())],
        cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        timeout=_TIMEOUT,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _drop(file: Path) -> None:
    """Take the file out of the page cache. The interpreter's own files stay."""
    if not hasattr(os, "posix_fadvise"):
        return
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    columns = (
        "model", "format", "engine", "threads", "decode tok/s", "share of bandwidth",
        "prefill tok/s", "first token warm / cold s", "peak MB", "file MB",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        share = "" if row.share is None else f"{row.share:.0%} of {row.bandwidth_gb_s:.1f} GB/s"
        lines.append(
            f"| {row.size} | {row.format} | {row.engine} | {row.threads} "
            f"| {row.decode_tokens_s:.1f} | {share} | {row.prefill_tokens_s:.0f} "
            f"| {row.first_token_warm_s:.2f} / {row.first_token_cold_s:.2f} "
            f"| {row.peak_mb:.0f} | {row.file_mb:.0f} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Decoding speed as bars, a panel a model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sizes = list(dict.fromkeys(row.size for row in rows))
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(5 * len(sizes), 4.2), layout="constrained", squeeze=False
    )
    for panel, size in zip(panels[0], sizes, strict=True):
        here = [row for row in rows if row.size == size]
        names = list(dict.fromkeys(f"{row.engine} {row.format}" for row in here))
        counts = sorted({row.threads for row in here})
        for place, count in enumerate(counts):
            speeds = {
                f"{row.engine} {row.format}": row.decode_tokens_s
                for row in here if row.threads == count
            }  # fmt: skip
            height = 0.8 / len(counts)
            panel.barh(
                [at + (place - (len(counts) - 1) / 2) * height for at in range(len(names))],
                [speeds.get(name, 0.0) for name in names],
                height=height,
                label=f"{count} thread{'s' if count > 1 else ''}",
            )
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.set_title(size)
        panel.set_xlabel("decoded tokens a second")
        panel.grid(axis="x", alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--sizes", default=",".join(SIZES), help="comma-separated")
    parser.add_argument("--formats", default="Q8_0,Q4_0", help="comma-separated")
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated")
    parser.add_argument("--plot", type=Path, help="write a PNG of the decoding speeds")
    parser.add_argument("--peer-python", help="interpreter with llama-cpp-python")
    parser.add_argument("--folder", type=Path, help="keep the model files here")
    parser.add_argument(
        "--join",
        type=Path,
        action="append",
        default=[],
        help="put the rows of an earlier --json first",
    )
    options = parser.parse_args(arguments)
    rows = [Row(**row) for file in options.join for row in json.loads(file.read_text("utf-8"))]
    for row in measure(
        [size for size in options.sizes.split(",") if size],
        formats=options.formats.split(","),
        threads=[int(count) for count in options.threads.split(",")],
        engines=options.engines.split(","),
        peer_python=options.peer_python,
        folder=options.folder,
    ):
        rows.append(row)
        print(json.dumps(asdict(row)), file=sys.stderr)
    if options.plot is not None:
        plot(rows, options.plot)
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
