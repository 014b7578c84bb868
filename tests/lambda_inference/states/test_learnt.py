"""A state learnt in torch speaks with the same words through the real server, and only there."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="states are learnt in torch")

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv7 import RWKV7, LoraRanks, RWKV7Shape
from finetuning.training.state_tuning import StateTuned, fingerprint, load_state, save_state
from lambda_inference.errors import ModelCorrupt, ModelNotFound, NotFound, StateForeign
from lambda_inference.gguf.convert import FINGERPRINT_KEY, Quantization, convert
from lambda_inference.model import describe
from lambda_inference.serving.host import ModelHost, check_states, load_model
from lambda_inference.serving.serve import main as serve_main
from lambda_inference.serving.service import HttpRequest, Service
from lambda_inference.settings import ModelSettings, ServerSettings
from lambda_inference.states.learnt import LearntState, identity_of, open_states
from lambda_inference.talk.prompt import Message, PromptBuilder
from tests.lambda_inference.checkpoints import rwkv4, rwkv7, save
from tests.lambda_inference.conftest import RunningServer, running
from tests.lambda_inference.models import write_folder

torch.set_num_threads(1)  # on tensors this small a second thread only waits

HELLO = [{"role": "user", "content": "hello there"}]
WORDS = 9
"""Tokens of each answer."""
QUANTIZATIONS: tuple[Quantization, ...] = ("F32", "F16", "Q8_0", "Q4_0")
VOICES = {"pirate": " arr, what music do you like", "poet": " today i am fine, you are fine"}
Model = RWKV4 | RWKV7


class World:
    """A tiny model, as a folder, in torch and as files; and two voices learnt for it."""

    def __init__(self, folder: Path, generation: str) -> None:
        self.generation = generation
        self.folder = write_folder(folder / "tiny")
        vocabulary = describe(self.folder).tokenizer().vocab_size
        if generation == "rwkv4":
            save(rwkv4(layers=2, width=64, vocab=vocabulary), self.folder / "model.safetensors")
            config = json.loads((self.folder / "config.json").read_text())
            config |= {"architecture": "rwkv4"}
            (self.folder / "config.json").write_text(json.dumps(config))
            self.model: Model = RWKV4(RWKV4Shape(2, 64, vocabulary))
        else:
            shape = RWKV7Shape(2, 64, vocabulary, head_size=32)
            self.model = RWKV7(shape, LoraRanks(8, 8, 8, 16))
        weights = load_file(self.folder / "model.safetensors")
        self.model.load_state_dict(weights, strict=False)
        self.model.eval()
        tokenizer = describe(self.folder).tokenizer()
        letters = {*b" ,abcdefghijklmnopqrstuvwxyz"}
        never = (
            token
            for token in range(vocabulary)
            if token == 0 or not {*tokenizer.token_bytes(token)} <= letters
        )
        self.bias = {str(token): -100 for token in never}
        """A request's `logit_bias`: words only, so that no reply ends by itself."""
        self.states = folder / "states"
        self.states.mkdir()
        for name, words in VOICES.items():
            save_state(self.learn(words), self.states / f"{name}.safetensors")

    def file(self, quantization: Quantization) -> Path:
        path = self.folder.parent / f"{quantization}.gguf"
        if not path.exists():
            convert(self.folder, path, quantization=quantization)
        return path

    def prompt(self, messages: list[dict[str, str]] = HELLO) -> list[int]:
        description = describe(self.folder)
        builder = PromptBuilder(description.template, description.tokenizer())
        built = builder.build([Message("user", one["content"]) for one in messages])
        return [*(token for turn in built.turns for token in turn), *built.opening]

    def learn(self, words: str, steps: int = 60) -> StateTuned:
        prompt = self.prompt()
        text = torch.tensor([[*prompt, *describe(self.folder).tokenizer().encode(words)]])
        tuned = StateTuned(self.model)
        optimizer = torch.optim.Adam([w for w in tuned.parameters() if w.requires_grad], lr=0.1)
        for _ in range(steps):
            logits, _ = tuned(text[:, :-1])
            loss = nn.functional.cross_entropy(logits[0, len(prompt) - 1 :], text[0, len(prompt) :])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return tuned


@pytest.fixture(scope="module", params=["rwkv4", "rwkv7"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp(request.param), request.param)


def greedy(world: World, voice: str | None, count: int = WORDS) -> str:
    """What the model says in torch, likeliest token after likeliest token."""
    model: nn.Module = world.model
    if voice is not None:
        model = load_state(world.states / f"{voice}.safetensors", world.model)
    tokenizer = describe(world.folder).tokenizer()
    tokens, state, said = world.prompt(), None, b""
    for _ in range(count):
        with torch.no_grad():
            for token in tokens:
                logits, state = model(torch.tensor([[token]]), state)
        logits[0, -1, [int(token) for token in world.bias]] = -torch.inf
        tokens = [int(logits[0, -1].argmax())]
        said += tokenizer.token_bytes(tokens[0])
    return said.decode("ascii").strip()


def request(model: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": HELLO,
        "temperature": 0,
        "frequency_penalty": 0,
        "max_tokens": WORDS,
    }


def ask(server: RunningServer, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"{server.url}{path}", data, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def say(world: World, model: Path, **settings: Any) -> str:
    """The greedy answer of a model server without a socket."""
    host = ModelHost(
        ModelSettings(file=str(model), threads=1, **settings), state_cache_bytes=1 << 20
    )
    body = json.dumps(request("friend") | {"logit_bias": world.bias}).encode()
    answer = Service(ServerSettings(), host).handle(
        HttpRequest("POST", "/v1/chat/completions", {}, body)
    )
    assert answer.status == 200, answer.body
    assert isinstance(answer.body, bytes)
    return text_of(json.loads(answer.body))


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_personas_are_served_side_by_side(world: World) -> None:
    said = {"tiny": greedy(world, None)}
    said |= {f"tiny:{name}": greedy(world, name) for name in sorted(VOICES)}
    assert len(set(said.values())) == 3
    if world.generation == "rwkv7":  # a state of RWKV-4 this narrow cannot hold so many words
        assert all(said[f"tiny:{name}"] in words for name, words in VOICES.items())
    with running(world.file("F32"), "--state", str(world.states)) as server:
        assert [one["id"] for one in ask(server, "/v1/models")["data"]] == list(said)
        assert ask(server, "/v1/models/tiny:poet")["id"] == "tiny:poet"

        def answers() -> dict[str, Any]:
            return {
                name: ask(
                    server, "/v1/chat/completions", request(name) | {"logit_bias": world.bias}
                )
                for name in said
            }

        first, second = answers(), answers()
        assert {name: text_of(answer) for name, answer in first.items()} == said
        assert {name: text_of(answer) for name, answer in second.items()} == said
        for cached, all_answers in ((False, first), (True, second)):
            for answer in all_answers.values():
                found = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
                assert bool(found) is cached, "no state is taken from another persona"
        assert len({answer["system_fingerprint"] for answer in first.values()}) == 3
        assert {name: answer["model"] for name, answer in first.items()} == {n: n for n in said}

        assert ask(server, "/v1/chat/completions", request("friend:poet"))["model"] == "tiny:poet"
        assert ask(server, "/v1/chat/completions", request("whatever"))["model"] == "tiny"
        for path, body in (
            ("/v1/models/tiny:cook", None),
            ("/v1/chat/completions", request("tiny:cook")),
        ):
            error = ask(server, path, body)["error"]
            assert error["code"] == "model_not_found"
            assert error["message"] == (
                "There is no model 'tiny:cook' here; this server has 'tiny', 'tiny:pirate', "
                "'tiny:poet'."
            )


def test_one_state_is_the_start_of_every_conversation(world: World) -> None:
    state = str(world.states / "pirate.safetensors")
    words = greedy(world, "pirate")
    assert say(world, world.file("F32"), state=state) == words
    assert say(world, world.file("F16"), state=state) != greedy(world, None)


def test_a_quantized_file_of_the_same_checkpoint_takes_the_state(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for quantization in QUANTIZATIONS:
        words = say(world, world.file(quantization), state=str(world.states / "pirate.safetensors"))
        if world.generation == "rwkv7":
            assert words[:10] == greedy(world, "pirate")[:10]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.reference
def test_the_reference_engine_takes_it_too(world: World) -> None:
    pytest.importorskip("rwkv")
    state = str(world.states / "pirate.safetensors")
    assert say(world, world.folder, state=state) == greedy(world, "pirate")


def test_a_checkpoint_has_one_fingerprint_in_every_form(world: World, tmp_path: Path) -> None:
    wanted = fingerprint(world.model.state_dict())
    torch.save(world.model.state_dict(), tmp_path / "model.pth")
    places = [world.folder / "model.safetensors", tmp_path / "model.pth"]
    places += [world.file(quantization) for quantization in QUANTIZATIONS]
    found = [identity_of(place) for place in places]
    assert {one.fingerprint for one in found} == {wanted}
    assert len(set(found)) == 1
    learnt = open_states(world.states)["pirate"].identity
    assert learnt == found[0]
    assert str(learnt).startswith(f"{world.generation} with 2 layers of 64")


def test_a_model_file_without_a_fingerprint_is_compared_by_shape(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old.gguf"
    content = world.file("F32").read_bytes()
    old.write_bytes(content.replace(FINGERPRINT_KEY.encode(), b"x" * len(FINGERPRINT_KEY)))
    state = str(world.states / "pirate.safetensors")
    assert say(world, old, state=state) == greedy(world, "pirate")
    assert "does not name its checkpoint" in caplog.text


def test_another_model_refuses_it(world: World, tmp_path: Path) -> None:
    def refused(words: str, folder: Path) -> None:
        description = describe(folder)
        settings = ModelSettings(file=str(folder), state=str(world.states))
        with pytest.raises(StateForeign, match=words):
            check_states(settings, description)

    other = Path(shutil.copytree(world.folder, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    save_file(weights | {"emb.weight": weights["emb.weight"] * 1.01}, other / "model.safetensors")
    refused(r"pirate\.safetensors was learnt with other weights of the same shape", other)
    vocabulary = weights["emb.weight"].shape[0]
    save(rwkv4(layers=3, width=64, vocab=vocabulary), other / "model.safetensors")
    refused(
        rf"another model \({world.generation} with 2 layers.*this one is rwkv4 with 3 layers", other
    )
    ranks = (8, 8, 8, 8)
    save(
        rwkv7(layers=2, width=64, vocab=vocabulary, head=64, ranks=ranks),
        other / "model.safetensors",
    )
    refused("this one is rwkv7 with 2 layers of 64 in heads of 64", other)


def test_what_is_not_there_says_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"There is no learnt state at .*none\.safetensors"):
        open_states(tmp_path / "none.safetensors")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelNotFound, match="holds no learnt state"):
        open_states(tmp_path)


@pytest.fixture
def state(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copy(world.states / "pirate.safetensors", tmp_path))


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: Path, header: object, values: bytes) -> None:
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + values)


def test_a_damaged_file_says_so(state: Path) -> None:
    whole = state.read_bytes()
    for damaged in (b"", b"GGUF", b"\xff" * 8 + whole[8:], whole[:-2], whole[:20], b"\0" * 8):
        state.write_bytes(damaged)
        with pytest.raises(ModelCorrupt, match=r"pirate\.safetensors.*(again|read)\."):
            LearntState(state)


HOSTILE: dict[str, Callable[[dict[str, Any], str], object]] = {
    "beyond the end": lambda header, name: header[name].update(data_offsets=[0, 1 << 40]),
    "before the start": lambda header, name: header[name].update(data_offsets=[-64, 0]),
    "backwards": lambda header, name: header[name]["data_offsets"].reverse(),
    "no offsets": lambda header, name: header[name].pop("data_offsets"),
    "huge shape": lambda header, name: header[name].update(shape=[1 << 62, 1 << 62, 4]),
    "infinite shape": lambda header, name: header[name].update(shape=[float("inf")]),
    "negative shape": lambda header, name: header[name].update(shape=[-2, -64]),
    "unknown type": lambda header, name: header[name].update(dtype="F8_E4M3"),
    "not an entry": lambda header, name: header.update({name: 7}),
    "a tensor less": lambda header, name: header.pop(name),
    "a tensor more": lambda header, name: header.update(more=header[name]),
    "no metadata": lambda header, name: header.pop("__metadata__"),
    "metadata of another kind": lambda header, name: header.update(__metadata__=[1]),
    "another format": lambda header, name: header["__metadata__"].update(format="pt"),
    "a later format": lambda header, name: header["__metadata__"].update(
        format="friend-initial-state-2"
    ),
    "another architecture": lambda header, name: header["__metadata__"].update(architecture="x"),
    "no shape": lambda header, name: header["__metadata__"].pop("shape"),
    "a shape that is none": lambda header, name: header["__metadata__"].update(shape="[[]"),
    "a deep shape": lambda header, name: header["__metadata__"].update(shape="[" * 100_000),
    "many layers": lambda header, name: header["__metadata__"].update(
        shape=json.dumps({"layers": 10**12, "width": 64, "vocab_size": 1, "head_size": 32})
    ),
    "no layers": lambda header, name: header["__metadata__"].update(
        shape=json.dumps({"layers": 0, "width": 64, "vocab_size": 1, "head_size": 32})
    ),
    "a width that is no number": lambda header, name: header["__metadata__"].update(
        shape=json.dumps({"layers": 2, "width": "64", "vocab_size": 1, "head_size": 32})
    ),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_header_is_refused(state: Path, harm: str) -> None:
    header, values = header_of(state)
    HOSTILE[harm](header, next(name for name in header if name != "__metadata__"))
    write(state, header, values)
    with pytest.raises(ModelCorrupt, match=r"pirate\.safetensors.*\.$"):
        LearntState(state)


@pytest.mark.parametrize("header", [[], "x", 7, None, [[[]]]])
def test_a_header_that_is_no_object_is_refused(state: Path, header: object) -> None:
    write(state, header, b"")
    with pytest.raises(ModelCorrupt, match=r"pirate\.safetensors"):
        LearntState(state)


def test_values_that_are_no_numbers_are_refused(world: World, state: Path) -> None:
    header, values = header_of(state)
    write(state, header, b"\xff" * len(values))
    settings = ModelSettings(file=str(world.file("F32")), state=str(state))
    with pytest.raises(ModelCorrupt, match="is damaged"):
        load_model(settings, state_cache_bytes=0)


def test_the_bot_and_its_server_may_share_a_name(world: World) -> None:
    for name in ("friend:poet", "friend:cook"):
        settings = ModelSettings(
            file=str(world.file("F32")), name=name, state=str(world.states), threads=1
        )
        model = load_model(settings, state_cache_bytes=0)
        ids = [one.id for one in model.descriptions]
        assert ids == ["friend", "friend:pirate", "friend:poet"]
        assert model.named("friend:poet").description.id == "friend:poet"
        with pytest.raises(NotFound, match="no model 'friend:cook' here"):
            model.named("friend:cook")


def test_friend_serve_ends_with_a_sentence(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--port", "0", "--model", str(world.file("F32"))]
    assert serve_main([*arguments, "--state", str(tmp_path / "none.safetensors")]) == 1
    assert capsys.readouterr().err == (
        f"friend serve: There is no learnt state at {tmp_path / 'none.safetensors'}.\n"
    )
