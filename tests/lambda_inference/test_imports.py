"""What a cold start pays for: the modules imported up to the first token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lambda_inference.conftest import ROOT

NEVER = {
    "torch", "rwkv", "pydantic", "botocore", "boto3", "httpx", "requests", "gguf", "aiohttp",
    "huggingface_hub", "jinja2", "safetensors", "openai", "typer", "rich",
}  # fmt: skip
NOT_IN_LAMBDA = {"starlette", "uvicorn", "anyio", "asyncio", "h11"}

HANDLER = """
import json, sys
from lambda_inference.aws import handler
body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
event = {"rawPath": "/v1/chat/completions", "body": body,
         "requestContext": {"http": {"method": "POST"}, "authorizer": {"iam": {"userId": "u"}}}}
answer = handler.handler(event, None)
assert answer["statusCode"] == 200, answer
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

SERVER = """
import json, sys
from lambda_inference.serving import serve
from lambda_inference.serving.host import load_model
from lambda_inference.talk.generate import GenerationRequest
from lambda_inference.talk.prompt import Message
from lambda_inference.talk.sampling import SamplingSettings
from lambda_inference.settings import ModelSettings
model = load_model(ModelSettings.from_environment(), state_cache_bytes=0)
prompt = model.prompts.build([Message("user", "hi")])
list(model.generator.generate(GenerationRequest(prompt, SamplingSettings(), 1)))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported(code: str, model: Path) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"FRIEND_MODEL_FILE": str(model)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("code", "never"), [(HANDLER, NEVER | NOT_IN_LAMBDA), (SERVER, NEVER)])
def test_only_what_a_request_needs(model_file: Path, code: str, never: set[str]) -> None:
    modules = imported(code, model_file)
    assert "lambda_inference" in modules
    assert not modules & never


def test_drawing_a_token_needs_no_numpy_random(model_file: Path) -> None:
    assert "numpy.random" not in imported(HANDLER.replace('.partition(".")[0]', ""), model_file)
