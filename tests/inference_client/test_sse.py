from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_client.sse import EventTooLong, SSEDecoder

_LIMIT = 1_000_000


def _decode(chunks: list[bytes]) -> list[str]:
    decoder = SSEDecoder(_LIMIT)
    return _feed(decoder, chunks) + list(decoder.close())


def _feed(decoder: SSEDecoder, chunks: list[bytes]) -> list[str]:
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(i % (len(data) + 1) for i in at)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


_LINE_END = st.sampled_from(["\n", "\r\n", "\r"])
_PAYLOAD = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=30
)
_NOISE = st.sampled_from([": keep-alive", ":", "event: message", "id: 7", "retry: 100", "junk"])


@given(
    payloads=st.lists(_PAYLOAD, max_size=8),
    noise=st.lists(_NOISE, max_size=3),
    end=_LINE_END,
    space=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
    bom=st.booleans(),
)
def test_any_cut_of_the_bytes_gives_the_same_events(
    payloads: list[str], noise: list[str], end: str, space: bool, cuts: list[int], bom: bool
) -> None:
    text = "".join(f"{line}{end}" for line in noise)
    for payload in payloads:
        lead = " " if space or payload.startswith(" ") else ""
        text += f"data:{lead}{payload}{end}" + "".join(f"{line}{end}" for line in noise) + end
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    assert _decode(_cut(data, cuts)) == payloads
    assert _decode([data[i : i + 1] for i in range(len(data))]) == payloads


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_no_bytes_break_it(chunks: list[bytes]) -> None:
    whole = _decode([b"".join(chunks)])
    assert _decode(chunks) == whole


def test_lines_of_one_event_are_joined() -> None:
    assert _decode([b"data: a\ndata: b\ndata\n\n"]) == ["a\nb\n"]


def test_a_line_end_cut_in_two_is_one_line_end() -> None:
    data = b"data: a\r\ndata: b\r\n\r\n"
    assert _decode([data[i : i + 1] for i in range(len(data))]) == ["a\nb"]


def test_an_event_without_its_blank_line_is_given_at_the_end() -> None:
    assert _decode([b"data: a\n\ndata: b\n"]) == ["a", "b"]
    assert _decode([b"data: a\n\ndata: b"]) == ["a", "b"]


def test_a_character_cut_in_two_is_whole_again() -> None:
    emoji = "🙂".encode()
    assert _decode([b"data: " + emoji[:2], emoji[2:] + b"\n\n"]) == ["🙂"]


def test_an_endless_line_is_stopped() -> None:
    decoder = SSEDecoder(100)
    with pytest.raises(EventTooLong):
        _feed(decoder, [b"data: xxxx"] * 20)


def test_an_endless_event_is_stopped() -> None:
    decoder = SSEDecoder(100)
    with pytest.raises(EventTooLong):
        _feed(decoder, [b"data:\n"] * 200)


def test_the_limit_is_for_one_event_and_not_for_all() -> None:
    decoder = SSEDecoder(100)
    events = _feed(decoder, [b"data: 01234", b"56789\n\n"] * 50)
    assert events == ["0123456789"] * 50
