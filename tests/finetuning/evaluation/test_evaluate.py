"""Bits per byte: counted by hand, and the same from PyTorch and from the engine that serves."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from finetuning.data.corpus import Conversation
from finetuning.errors import CorpusError, EvaluationError
from finetuning.evaluation.generate import Sampling, converse
from finetuning.evaluation.native_bits import bits_by_engine
from finetuning.evaluation.run import Plan, candidate, needs, run
from finetuning.evaluation.score import Spelled, spell, tally
from finetuning.evaluation.torch_bits import bits_by_torch, load_model
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv4 import initialize as initialize4
from finetuning.models.rwkv7 import RWKV7
from lambda_inference.errors import ModelNotFound
from lambda_inference.gguf.chat_template import ChatTemplate
from lambda_inference.gguf.convert import Quantization, convert
from lambda_inference.model import describe
from lambda_inference.talk.prompt import Message, PromptBuilder
from lambda_inference.talk.tokenizer import decode
from tests.finetuning.conftest import TURNS, VOCABULARY
from tests.lambda_inference.models import TEMPLATE

TALK = Conversation("topical-chat", ("hello there", "hi! how are you?", "caf\u00e9"), "test_freq")
CHAT = Conversation("chitchat", ("do you like music?", "yes"))
LONG = Conversation("", tuple(turn for turns in TURNS * 6 for turn in turns))
ALL = (CHAT, LONG, TALK)


@pytest.fixture
def folder(model: RWKV7, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """The model as a folder, in float16."""
    folder = tmp_path / "model"
    folder.mkdir()
    weights = {key: weight.half() for key, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"name": "small", "architecture": "rwkv7", "layers": 3, "width": 128}
    config |= {"vocab_size": VOCABULARY, "head_size": 64, "template": TEMPLATE}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prompts_of(folder: Path) -> PromptBuilder:
    description = describe(folder)
    return PromptBuilder(description.template, description.tokenizer())


def bits_by_hand(model: RWKV7, text: Spelled) -> float:
    state, bits, chances = None, 0.0, torch.zeros(0)
    with torch.no_grad():
        for token, asked in zip(text.tokens.tolist(), text.counted, strict=True):
            if asked:
                bits -= float(chances[token]) / math.log(2)
            logits, state = model(torch.tensor([[token]]), state)
            chances = logits[0, -1].log_softmax(-1)
    return bits


def test_a_conversation_is_spelled_as_the_server_does_and_labels_are_not_asked(
    folder: Path,
) -> None:
    prompts, read = prompts_of(folder), describe(folder).tokenizer()
    text = spell(prompts, TALK)
    said = [Message("assistant" if n == 1 else "user", turn) for n, turn in enumerate(TALK.turns)]
    assert text.tokens.tolist() == [t for turn in prompts.build(said).turns for t in turn]
    assert decode(read, text.asked.tolist()) == (
        " hello there\n\n hi! how are you?\n\n caf\u00e9\n\n"
    )
    unasked = text.tokens[~text.counted].tolist()
    assert decode(read, unasked) == "<|endoftext|>User:Friend:User:"


def test_bits_equal_those_counted_token_by_token(folder: Path) -> None:
    prompts = prompts_of(folder)
    model = load_model(folder / "model.safetensors")
    texts = [spell(prompts, one) for one in (CHAT, TALK)]
    told: list[int] = []
    found = bits_by_torch(model, texts, told.append)
    assert isinstance(model, RWKV7)
    assert found == pytest.approx([bits_by_hand(model, text) for text in texts], rel=1e-4)
    assert sum(told) == sum(len(text.tokens) for text in texts)


def test_the_engine_gives_the_number_that_pytorch_gives(folder: Path, tmp_path: Path) -> None:
    """Both compute in float32, in another order: a sum of n terms is off by some n roundings.

    That is below 1e-5 of a logit here; what a wrong operation costs is seen in the last lines.
    """
    prompts = prompts_of(folder)
    texts = [spell(prompts, one) for one in ALL]
    wanted = bits_by_torch(load_model(folder / "model.safetensors"), texts)
    found: dict[str, list[float]] = {}
    names: tuple[Quantization, ...] = ("F32", "Q8_0", "Q4_0")
    for name in names:
        convert(folder, tmp_path / f"{name}.gguf", quantization=name)
        found[name] = bits_by_engine(tmp_path / f"{name}.gguf", texts, threads=2)
    assert found["F32"] == pytest.approx(wanted, rel=1e-5)
    assert found["Q8_0"] == pytest.approx(wanted, rel=0.01)
    assert found["Q8_0"] != pytest.approx(wanted, rel=1e-5)
    assert found["Q4_0"] == pytest.approx(wanted, rel=0.1)
    assert bits_by_engine(tmp_path / "F32.gguf", texts, threads=1) == found["F32"]


def test_a_conversation_longer_than_a_piece_is_one_conversation(
    folder: Path, tmp_path: Path
) -> None:
    convert(folder, tmp_path / "F32.gguf", quantization="F32")
    text = spell(prompts_of(folder), LONG)
    assert len(text.tokens) > 600
    model = load_model(folder / "model.safetensors")
    (whole,) = bits_by_engine(tmp_path / "F32.gguf", [text])
    assert whole == pytest.approx(bits_by_torch(model, [text])[0], rel=1e-5)


def test_rwkv4_is_measured_as_well(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = RWKV4(RWKV4Shape(layers=2, width=64, vocab_size=VOCABULARY))
    initialize4(model, seed=3, emb_scale=0.5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    save_file(
        {k: w.contiguous() for k, w in model.state_dict().items()}, tmp_path / "m.safetensors"
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "rwkv4", "name": "four", "template": TEMPLATE})
    )
    texts = [spell(prompts_of(tmp_path), one) for one in ALL]
    wanted = bits_by_torch(load_model(tmp_path / "m.safetensors"), texts)
    convert(tmp_path / "m.safetensors", tmp_path / "F32.gguf", quantization="F32")
    assert bits_by_engine(tmp_path / "F32.gguf", texts) == pytest.approx(wanted, rel=1e-5)


def test_scores_are_sums_by_source() -> None:
    scores = tally([TALK, CHAT, TALK], [10.0, 20.0, 30.0])
    talk, chat, both = scores["topical-chat/test_freq"], scores["chitchat"], scores["all"]
    assert list(scores) == ["chitchat", "topical-chat/test_freq", "all"]
    assert (talk.bits, talk.bytes, talk.turns, talk.words) == (40, 2 * (11 + 16 + 5), 6, 14)
    assert talk.bits_per_byte == 40 / 70
    assert talk.word_perplexity == 2 ** (40 / 20)
    assert (both.bits, both.conversations) == (60, 3)
    assert chat.as_row()["bits_per_text_byte"] == round(20 / 21, 5)
    with pytest.raises(EvaluationError, match="not a number"):
        tally([CHAT], [math.nan])


def test_a_template_without_labels_cannot_be_measured(folder: Path) -> None:
    bare = PromptBuilder(
        ChatTemplate(user="", assistant="", end_of_text=None), describe(folder).tokenizer()
    )
    with pytest.raises(EvaluationError, match="no label"):
        spell(bare, CHAT)


def test_a_run_measures_every_format_on_every_file(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = [json.dumps({"source": one.source, "sub": one.sub, "turns": one.turns}) for one in ALL]
    first.write_text("\n".join([*lines, "oops"]))
    second.write_text(lines[0])
    seen: list[tuple[str, int, int]] = []
    plan = Plan((first, second), floor=first, samples=2, turns=2)
    report = run(candidate(folder), plan, lambda *told: seen.append(told))

    rows = {(row["file"], row["format"], row["name"]): row for row in report.rows}
    formats = ("torch", "F32", "Q8_0", "Q4_0", "5-gram")
    sources = ("chitchat", "no source named", "topical-chat/test_freq", "all")
    assert set(rows) == {("a.jsonl", f, s) for f in formats for s in sources} | {
        ("b.jsonl", f, s) for f in formats for s in ("chitchat", "all")
    }
    exact = rows["a.jsonl", "F32", "all"]["bits_per_byte"]
    assert rows["a.jsonl", "torch", "all"]["bits_per_byte"] == pytest.approx(exact, rel=2e-5)
    q8 = rows["a.jsonl", "Q8_0", "all"]
    assert q8["change_from_f32_percent"] == pytest.approx(
        100 * (q8["bits_per_byte"] / exact - 1), abs=1e-3
    )
    assert rows["a.jsonl", "5-gram", "all"]["bits_per_byte"] < exact  # it has read the answers
    assert rows["b.jsonl", "F32", "all"]["turns"] == 2
    assert report.bad == ["a.jsonl: 1 bad record(s) left out: line 4: not JSON"] * 2
    assert report.sampled is not None
    assert (report.sampled["conversations"], report.sampled["replies"]) == (2, 4)
    assert [len(talk) for talk in report.talks] == [2, 2]
    assert {stage for stage, _, _ in seen} == {*formats, "replies"}
    assert all(done <= total for _, done, total in seen)
    assert json.loads(json.dumps(report.as_json()))["floor"]["order"] == 5


def test_a_model_that_is_only_a_file_is_measured_as_it_is(folder: Path, tmp_path: Path) -> None:
    file, data = tmp_path / "small.gguf", tmp_path / "data.jsonl"
    convert(folder, file, quantization="Q4_0")
    data.write_text(json.dumps({"source": "x", "turns": CHAT.turns}))
    found = candidate(file)
    assert found.formats == ("Q4_0",)
    assert needs(found, found.formats) == set()
    assert {row["format"] for row in run(found, Plan((data,))).rows} == {"Q4_0"}
    with pytest.raises(EvaluationError, match=r"small\.gguf is Q4_0, .* Give the model's folder"):
        needs(found, ("F32",))
    shutil.copy(file, folder / "small.gguf")
    for path in (folder, folder.parent):  # the latter as the folder of a run
        assert candidate(path).own is None
        assert candidate(path).description.weights == folder / "model.safetensors"
    (folder / "model.safetensors").unlink()
    assert candidate(folder).own == "Q4_0"
    with pytest.raises(ModelNotFound):
        candidate(tmp_path / "nothing")


def test_a_limit_takes_conversations_from_all_over_the_file(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(
        "\n".join(json.dumps({"source": str(n), "turns": ["hello", "hi"]}) for n in range(9))
    )
    report = run(candidate(folder), Plan((data,), ("F32",), limit=3))
    assert [row["name"] for row in report.rows] == ["0", "3", "6", "all"]
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CorpusError, match="holds no usable conversation"):
        run(candidate(folder), Plan((tmp_path / "empty.jsonl",)))


def test_replies_are_reproducible_and_stay_in_their_turn(
    model: RWKV7, tokenizer: Tokenizer
) -> None:
    lines = ["hello there", "User: do you like music?"]
    first = converse(model, tokenizer, lines, Sampling(seed=4, longest_reply=12))
    again = converse(model, tokenizer, lines, Sampling(seed=4, longest_reply=12))
    other = converse(model, tokenizer, lines, Sampling(seed=5, longest_reply=12))
    assert first == again
    assert first != other
    assert [line for line, _ in first] == lines
    assert all("\n\n" not in reply and "User:" not in reply for _, reply in first)
