"""Readers of what people bring: the words arrive, and whatever does not is accounted for."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data.channel import Message, People, conversations
from finetuning.data.chat_files import read_chat_file
from finetuning.data.cleaning import clean_turn, join_turns
from finetuning.data.compressed import read_lines
from finetuning.data.corpus import Conversation
from finetuning.data.json_records import BrokenJson, records
from finetuning.data.report import ReadingReport
from finetuning.errors import CorpusError


def read(path: Path, **options: Any) -> tuple[list[tuple[str, ...]], ReadingReport]:
    report = ReadingReport()
    return [one.turns for one in read_chat_file(path, report, **options)], report


# --- cleaning -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("  it’s\n“fine” –  ok…  ", 'it\'s "fine" - ok...'),
        ("tom &amp; jerry &lt;3", "tom & jerry <3"),
        ("see https://example.org/a?b=c now", "see now"),
        ("write to me.too+x@example.org please", "write to please"),
        ("no\u200bwhere\u0007", "nowhere"),
        ("what?!?!", "what?!?!"),
        ("noooo!!!!!!", "noooo!!!"),
        ("...", ""),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("שלום", "שלום"),
        (":)", ":)"),
        ("?! ;-) ...", "?! ;-) ..."),
    ],
)
def test_cleaning(written: str, cleaned: str) -> None:
    assert clean_turn(written) == cleaned


@given(st.text())
def test_a_clean_turn_is_one_line_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_turn(text)
    assert "\n" not in cleaned
    assert cleaned == " ".join(cleaned.split())


def test_messages_of_one_speaker_become_sentences_of_one_turn() -> None:
    assert join_turns(["hi", "how are you?", "me too", "bye"]) == "hi. how are you? me too. bye"


# --- JSON with lines ------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(_JSON), st.sampled_from([None, 1, 4]), st.booleans())
def test_entries_come_with_the_lines_they_begin_on(
    entries: list[Any], indent: int | None, ascii_only: bool
) -> None:
    whole = {"before": [1, {"a": 2}], "wanted": entries, "after": {}}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    found = list(records(text, "wanted"))
    assert [value for _, _, value in found] == entries
    for line, _, value in found:
        rest = "\n".join(text.split("\n")[line - 1 :])
        assert json.dumps(value, indent=indent, ensure_ascii=ascii_only).split("\n")[0] in rest
    lines = [line for line, _, _ in found]
    assert lines == sorted(lines)
    if indent:
        assert len(set(lines)) == len(lines)


@given(st.dictionaries(st.text(), _JSON, min_size=1), st.data())
def test_a_cut_document_is_never_taken_for_a_whole_one(
    whole: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(whole, indent=1)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(BrokenJson) as caught:
        list(records(text[:cut]))
    assert 1 <= caught.value.line <= text[:cut].count("\n") + 1


# --- Topical-Chat ---------------------------------------------------------------------------


def topical(*said: tuple[str, Any]) -> dict[str, Any]:
    return {
        "article_url": "",
        "config": "C",
        "content": [
            {"message": words, "agent": agent, "sentiment": "Happy", "turn_rating": "Good"}
            for agent, words in said
        ],
        "conversation_rating": {},
    }


def test_topical_chat_in_both_editions(tmp_path: Path) -> None:
    path = tmp_path / "test_freq.json"
    content = {
        "t_1": topical(("agent_1", "Hello!"), ("agent_2", "Hi, do you like dogs?")),
        "t_2": topical(
            ("agent_2", ["Did you know?", "It rains"]),
            ("agent_2", "a lot"),
            ("agent_1", "  "),
            ("agent_1", "Yes"),
        ),
    }
    path.write_text(json.dumps(content))
    report = ReadingReport()

    found = list(read_chat_file(path, report))

    assert found == [
        Conversation("topical-chat", ("Hello!", "Hi, do you like dogs?"), "test_freq"),
        Conversation("topical-chat", ("Did you know? It rains. a lot", "Yes"), "test_freq"),
    ]
    assert report.used == 2
    assert report.left_out == {"empty messages within conversations": 1}


def test_bad_conversations_of_topical_chat_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    entries = {
        "t_1": topical(("agent_1", "alone")),
        "t_2": {"content": "none"},
        "t_3": {"content": [{"message": "x"}]},
        "t_4": topical(("agent_1", 5), ("agent_2", "hi")),
        "t_5": topical(("agent_1", "a word"), ("agent_2", "hi")),
        "t_6": None,
    }
    body = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    path.write_text("{\n" + body + "\n}")

    found, report = read(path)

    assert found == [("a word", "hi")]
    assert [line for line, _ in report.bad["train.json"]] == [2, 3, 4, 5, 7]
    assert report.bad_count == 5
    assert "line 2: not two speakers; line 3: no list" in report.text()


def test_a_cut_off_file_says_where(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    whole = json.dumps({"t_1": topical(("agent_1", "a"), ("agent_2", "b"))}, indent=1)
    path.write_text(whole[:-40])
    with pytest.raises(CorpusError, match=r"train\.json is not JSON from line \d+ on"):
        read(path)


# --- two columns, chat lines ----------------------------------------------------------------

_cell = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(st.lists(st.tuples(_cell, _cell), max_size=8), st.sampled_from([",", ";"]))
def test_rows_written_by_a_spreadsheet_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], mark: str
) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=mark)
        writer.writerow(["prompt", "reply"])
        writer.writerows(rows)
    found, report = read(path)
    clean = [(clean_turn(prompt), clean_turn(reply)) for prompt, reply in rows]
    assert found == [pair for pair in clean if all(pair)]
    assert report.used == len(found)
    blank = sum(not prompt.strip() and not reply.strip() for prompt, reply in rows)
    assert report.bad_count == len(rows) - len(found) - blank


def test_bad_rows_are_named_with_the_lines_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(
        b'hi,hello\r\n"two\r\nlines",fine\r\nalone\r\n\r\na,b,c\r\nempty,\r\n'
        b'bad \xff,byte\r\nwell,done\r\n"open,end\r\nmore,rows\r\n'
    )
    found, report = read(path)
    assert found == [("hi", "hello"), ("two lines", "fine"), ("well", "done")]
    assert report.bad["pairs.csv"] == [
        (4, "1 column(s) instead of 2"),
        (6, "3 column(s) instead of 2"),
        (7, "an empty reply"),
        (8, "not UTF-8"),
        (10, "a quote that is never closed, over 2 lines"),
    ]


def test_tabs_and_no_heading(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text('say "hi"\t"hi"\nuser\treply\n', "utf-8-sig")
    found, report = read(path)
    assert found == [('say "hi"', '"hi"'), ("user", "reply")]
    assert not report.left_out
    path.write_text("Question\tAnswer\nwho?\tme\n")
    found, report = read(path)
    assert found == [("who?", "me")]
    assert report.left_out == {"heading": 1}


def chat(*said: tuple[str, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": words} for role, words in said]})


def test_chat_lines_of_both_kinds(tmp_path: Path) -> None:
    lines = [
        chat(("system", "be kind"), ("user", "hi"), ("assistant", "hello")),
        json.dumps({"source": "s", "sub": "x", "turns": ["a b", "c\nd", "e"]}),
        chat(("assistant", "welcome"), ("user", "hi"), ("user", "you"), ("assistant", "yes")),
        chat(("user", [{"type": "text", "text": "parts"}]), ("assistant", "ok"), ("user", "bye")),
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n\n".join(lines))
    found, report = read(path)
    assert found == [("hi", "hello"), ("a b", "c d", "e"), ("hi. you", "yes"), ("parts", "ok")]
    assert report.used == 4
    assert report.left_out == {
        "system messages, within conversations": 1,
        "messages that answer nobody, within conversations": 1,
        "messages that nobody to imitate answered, within conversations": 1,
    }
    packed = tmp_path / "chat.jsonl.zst"
    packed.write_bytes(zstandard.compress(path.read_bytes()))
    assert read(packed)[0] == found


def test_bad_chat_lines_are_named(tmp_path: Path) -> None:
    bad = [
        "{",
        "3",
        "{}",
        '{"messages": 1}',
        chat(("tool", "x"), ("assistant", "y")),
        chat(("user", 3), ("assistant", "y")),
        chat(("user", "only a question")),
        '{"turns": ["one"]}',
        '{"turns": ["one", ""]}',
        '{"turns": ["one", "\\ud83d"]}',
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join([chat(("user", "q"), ("assistant", "a")), *bad]))
    found, report = read(path)
    assert found == [("q", "a")]
    assert [line for line, _ in report.bad["chat.jsonl"]] == list(range(2, 12))
    assert report.text().startswith("chat.jsonl: 10 bad record(s) left out: line 2: not JSON; ")
    assert "line 6: a message of role 'tool'" in report.text()


@given(
    st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=20),
    st.booleans(),
    st.data(),
)
def test_archives_of_one_or_more_frames_read_as_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    last_end: bool,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    content = b"\n".join(lines) + (b"\n" if last_end else b"")
    plain, packed = folder / "x.jsonl", folder / "x.jsonl.zst"
    plain.write_bytes(content)
    half = data.draw(st.integers(0, len(content)))
    archive = zstandard.compress(content[:half]) + zstandard.compress(content[half:])
    packed.write_bytes(archive)
    assert list(read_lines(packed)) == list(read_lines(plain))
    packed.write_bytes(archive[: -data.draw(st.integers(1, 4))])
    with pytest.raises(OSError, match="cut off"):
        list(read_lines(packed))


# --- Discord --------------------------------------------------------------------------------

ANN = {"id": "1", "name": "annie_w", "nickname": "Ann Wilson", "isBot": False}
BOB = {"id": "2", "name": "bob", "nickname": "Bob", "isBot": False}
BOT = {"id": "9", "name": "helper", "nickname": "Helper", "isBot": True}


def posted(
    author: Any, content: Any, minute: float = 0, kind: str = "Default", **rest: Any
) -> dict[str, Any]:
    hours, minutes = divmod(minute, 60)
    time = f"2024-05-01T{int(hours):02}:{int(minutes):02}:{int(minute * 60) % 60:02}.5+00:00"
    return {"type": kind, "timestamp": time, "content": content, "author": author, **rest}


def discord(path: Path, messages: list[Any]) -> Path:
    head = {"guild": {"id": "5", "name": "g"}, "channel": {"id": "6", "name": "general"}}
    path.write_text(json.dumps({**head, "messages": messages, "messageCount": 1}, indent=1))
    return path


def test_a_discord_channel_becomes_conversations_with_one_person(tmp_path: Path) -> None:
    path = discord(
        tmp_path / "general.json",
        [
            posted(ANN, "morning all", 0),
            posted(BOB, "hi <@1>, seen <#77>? <:wave:5> @everyone", 1),
            posted(BOB, "@Ann Wilson do you like tea", 2),
            posted(BOT, "I am a bot", 3),
            posted(ANN, "Yes! Ask bob", 4, kind="Reply"),
            posted(ANN, "or annie_w herself", 5),
            posted(BOB, "", 6, attachments=[{"id": "1"}]),
            posted(BOB, "Bob joined the server.", 6, kind="GuildMemberJoin"),
            posted(BOB, "wilson? ANN is here", 90),
            posted(ANN, "ok", 91),
            posted(BOB, "bye", 92),
        ],
    )
    found, report = read(path, imitate="ann wilson")
    assert found == [
        (
            "hi friend, seen ? :wave: do you like tea",
            "Yes! Ask Person 1. or friend herself",
        ),
        ("friend? friend is here", "ok"),
    ]
    assert report.used == 6
    assert report.left_out == {
        "messages that answer nobody": 1,
        "messages by bots": 1,
        "messages without words": 1,
        "notices by Discord (joins, pins and the like)": 1,
        "messages that nobody to imitate answered": 1,
    }
    assert read(path, imitate="1")[0] == read(path, imitate="@annie_w")[0] == found


def test_a_folder_of_channels_keeps_one_placeholder_a_person(tmp_path: Path) -> None:
    cleo = {**BOB, "id": "3", "name": "cleo", "nickname": "Cleo"}
    discord(tmp_path / "a.json", [posted(BOB, "where is cleo?"), posted(ANN, "with Bob")])
    discord(tmp_path / "b.json", [posted(cleo, "bob!"), posted(ANN, "no, Cleo", 1)])
    found, _ = read(tmp_path, imitate="Ann Wilson")
    assert found == [("where is Person 1?", "with Person 2"), ("Person 2!", "no, Person 1")]


def test_bad_messages_are_named_with_their_lines(tmp_path: Path) -> None:
    good = [posted(BOB, "q"), posted(ANN, "a", 1)]
    bad = [
        None,
        posted({"name": "x"}, "text"),
        posted(BOB, None),
        {**posted(BOB, "text"), "timestamp": "noon"},
    ]
    path = discord(tmp_path / "general.json", [good[0], *bad, good[1]])
    found, report = read(path, imitate="1")
    assert found == [("q", "a")]
    lines = path.read_text().split("\n")
    for line, why in report.bad["general.json"]:
        assert lines[line - 1].strip() in ("{", "null,"), why
    assert [why for _, why in report.bad["general.json"]] == [
        "not an object",
        'no "author" with an "id"',
        'no text "content"',
        'no "timestamp" that is a time',
    ]


def test_the_speakers_are_listed_when_nobody_is_meant(tmp_path: Path) -> None:
    other_bob = {**BOB, "id": "4"}
    path = discord(
        tmp_path / "c.json", [posted(BOB, "a"), posted(ANN, "b"), posted(other_bob, "c")]
    )
    for imitate, complaint in [
        (None, r"Say whom to imitate\. The speakers are: Bob \(id 2, 1 messages\), Ann Wilson"),
        ("zoe", "Nobody called 'zoe' speaks here"),
        ("", "Nobody called ''"),
        ("bob", "More than one speaker is called 'bob'"),
    ]:
        with pytest.raises(CorpusError, match=complaint):
            read(path, imitate=imitate)


# --- Slack ----------------------------------------------------------------------------------

USERS = [
    {"id": "U1", "name": "ann.w", "profile": {"real_name": "Ann Wilson", "display_name": "Ann"}},
    {"id": "U2", "name": "bob", "profile": {"real_name": "Robert Stone", "display_name": ""}},
    {"name": "no id"},
]


def said(user: str | None, text: str, ts: float, **rest: Any) -> dict[str, Any]:
    message = {"type": "message", "user": user, "text": text, "ts": f"{ts:.6f}", **rest}
    return {key: value for key, value in message.items() if value is not None}


def slack(folder: Path, days: dict[str, list[Any]]) -> Path:
    (folder / "users.json").write_text(json.dumps(USERS, indent=1))
    (folder / "channels.json").write_text(json.dumps([{"id": "C1", "name": "general"}]))
    for name, messages in days.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(messages, indent=1))
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    return slack(
        folder,
        {
            "general/2024-05-01.json": [
                said("U2", "hi <@U1>, it&amp;s me &lt;3 <!here>", 100),
                said("U1", "hello <@U2|bob>", 110),
                said("U2", "thread?", 120, thread_ts="120.000000"),
                said("U2", "<@U1> joined", 121, subtype="channel_join"),
                said(None, "beep", 122, bot_id="B1", subtype="bot_message"),
                said("U2", "see <https://example.org|the page> of <#C1|general>", 130),
                said("U1", "in Robert's thread", 140, thread_ts="120.000000"),
                said("U1", "Stone said so", 150),
            ],
            "general/2024-05-02.json": [
                said("U2", "<@U1>", 90_000),
                {"type": "message"},
                {**said("U2", "when?", 0), "ts": "nan"},
            ],
        },
    )


def check_slack(path: Path) -> None:
    found, report = read(path, imitate="Ann")
    assert found == [
        ("hi friend, it&s me <3", "hello Person 1", "see the page of general", "Person 1 said so"),
        ("thread?", "in Person 1's thread"),
    ]
    assert report.used == 6
    assert report.left_out == {
        "notices by Slack (joins, topics and the like)": 1,
        "messages by bots": 1,
        "messages without words": 1,
    }
    assert {name.rpartition("/")[2]: len(bad) for name, bad in report.bad.items()} == {
        "users.json": 1,
        "2024-05-02.json": 2,
    }


def test_a_slack_export_as_a_folder(export: Path) -> None:
    check_slack(export)


def test_one_channel_of_a_slack_export(export: Path) -> None:
    check_slack(export / "general")


@pytest.mark.parametrize("inside", ["", "Our workspace/"])
def test_a_slack_export_as_a_zip(export: Path, inside: str) -> None:
    path = export.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in export.rglob("*.json"):
            archive.write(file, inside + file.relative_to(export).as_posix())
    check_slack(path)


def test_a_broken_day_costs_only_itself(export: Path) -> None:
    day = export / "general" / "2024-05-01.json"
    text = day.read_text()
    day.write_text(text[: text.index('"thread?"')])
    (export / "general" / "2024-05-03.json").write_bytes(b"\xff")
    found, report = read(export, imitate="U1")
    assert found == [("hi friend, it&s me <3", "hello Person 1")]
    ((line, why),) = report.bad["general/2024-05-01.json"]
    assert "not JSON from line" in why
    assert text.split("\n")[line - 1].strip() == '"text": "thread?",'
    assert "not UTF-8" in report.bad["general/2024-05-03.json"][0][1]


# --- what holds for every channel -----------------------------------------------------------

_names = st.lists(
    st.text(st.characters(categories=["Lu", "Ll"], max_codepoint=0x17F), min_size=3, max_size=8),
    min_size=3,
    max_size=3,
    unique_by=str.casefold,
).filter(lambda names: not {"person", "friend"} & {name.casefold() for name in names})


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[str], list[Message]]:
    names = draw(_names)
    word = st.sampled_from(
        ["hi", "you?", "<3", ":)", "@{0}", "{1},", "{2}", "{0}!", "...", "\n", "https://a.b", "@0"]
    )
    messages = draw(
        st.lists(
            st.builds(
                lambda who, parts, time, bot: Message(
                    str(who), " ".join(parts).format(*names), time, bot and who == 2
                ),
                st.integers(0, 2),
                st.lists(word, max_size=6),
                st.floats(0, 20_000),
                st.booleans(),
            ),
            max_size=25,
        )
    )
    return names, [Message("0", "first", 0.0), *messages]


def plain(text: str, name: Callable[[str], str]) -> str:
    return text.replace("@0", name("0"))


@given(groups())
def test_every_message_is_used_or_accounted_for_and_no_name_is_left(
    group: tuple[list[str], list[Message]],
) -> None:
    names, messages = group
    people = People()
    for person, name in enumerate(names):
        people.add(str(person), name)
    report = ReadingReport()

    found = list(conversations([messages], people, plain, report, source="test", imitate="0"))

    assert report.used + report.left_out.total() == len(messages)
    known = {name.casefold() for name in names}
    for one in found:
        assert len(one.turns) >= 2
        assert len(one.turns) % 2 == 0
        for turn in one.turns:
            assert turn
            assert turn == clean_turn(turn)
            letters = "".join(char if char.isalpha() else " " for char in turn)
            assert not known & {word.casefold() for word in letters.split()}


def test_names_that_are_words_too_can_be_kept() -> None:
    people = People(keep=["Will"])
    people.add("1", "Will", "Al")
    people.add("2", "The Real Bob")
    people.choose("2", [Message("2", "", 0)])
    replaced = people.replacer()
    assert replaced("will you, Will? al fine, Al. the bob is real") == (
        "will you, Will? al fine, Person 1. the \ufdd0 is real"
    )


def test_a_pause_ends_a_conversation_and_order_in_the_file_does_not_matter() -> None:
    people = People()
    people.add("1", "Ann")
    messages = [
        Message("1", "later answer", 9000),
        Message("2", "later", 8000),
        Message("1", "answer", 20),
        Message("2", "early", 10),
    ]
    found = conversations(
        [messages], people, plain, ReadingReport(), source="s", imitate="Ann", pause=600
    )
    assert [one.turns for one in found] == [("early", "answer")]


# --- choosing the reader --------------------------------------------------------------------


def test_unknown_things_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "talk.doc").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    (tmp_path / "words.jsonl.zst").write_bytes(b"this is no archive")
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(b"3\n" * 5000)[:-4])
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("notes/readme.txt", "x")
    (tmp_path / "foreign.zip").write_bytes(foreign.getvalue())
    for name, complaint in {
        "none.csv": r"There is no file .*none\.csv",
        "talk.doc": "of no format that is known here",
        "empty": "holds no export of Slack or Discord",
        "broken.zip": "cannot be read as a zip",
        "foreign.zip": "no Slack export",
        "cut.jsonl.zst": "cannot be read: the archive is cut off",
        "words.jsonl.zst": "cannot be read",
    }.items():
        with pytest.raises(CorpusError, match=complaint):
            read(tmp_path / name, imitate="x")
