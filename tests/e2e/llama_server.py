"""llama.cpp's own server on the shipped model: opt-in, since it has to be built.

FRIEND_LLAMA_PYTHON names an interpreter that has `llama-cpp-python[server]`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import lambda_inference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PYTHON = os.environ.get("FRIEND_LLAMA_PYTHON")
MODEL = next((Path(lambda_inference.__file__).parent / "models" / "pocket").glob("*.gguf"))
CONTEXT = 512
STRICT = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{{ message['content'] + '\\n' }}{% endfor %}"
)

opted_in = [
    pytest.mark.llama_server,
    pytest.mark.skipif(not PYTHON, reason="FRIEND_LLAMA_PYTHON is not set"),
    pytest.mark.timeout(300),
]


def with_template(folder: Path, template: str) -> Path:
    """The shipped model with another chat template."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(MODEL)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(folder / "strict.gguf", architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "tokenizer.chat_template"):
            continue
        kind = field.types[0]
        of = field.types[-1] if kind is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=of)
    writer.add_chat_template(template)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "strict.gguf"


@asynccontextmanager
async def llama_server(model: Path = MODEL) -> AsyncIterator[str]:
    """The server's address, `/v1` included."""
    assert PYTHON is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--n_ctx", str(CONTEXT), "--n_threads", "1", "--host", "127.0.0.1"]
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1"
    try:
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(120):
            while True:
                assert process.returncode is None, "the server did not start"
                with suppress(httpx.TransportError):
                    if (await client.get(f"{url}/models")).is_success:
                        break
                await asyncio.sleep(0.2)
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
