"""What Slack sends beside the text."""

from __future__ import annotations

from typing import Any

import pytest

from bot.platforms.slack.beside import files_of, raw_beside, raw_text, words_beside
from bot.platforms.slack.blocks import text_of


def rich(*elements: dict[str, Any], kind: str = "rich_text_section", **more: Any) -> dict[str, Any]:
    part = {"type": kind, "elements": list(elements), **more}
    return {"type": "rich_text", "block_id": "b", "elements": [part]}


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def beside(event: dict[str, Any]) -> str:
    return words_beside(event, lambda raw: raw)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (rich(words("a < b & c")), "a &lt; b &amp; c"),
        (rich({"type": "user", "user_id": "U1"}, words(" hi")), "<@U1> hi"),
        (rich({"type": "usergroup", "usergroup_id": "S1"}), "<!subteam^S1>"),
        (rich({"type": "channel", "channel_id": "C1"}), "<#C1>"),
        (rich({"type": "broadcast", "range": "here"}), "<!here>"),
        (
            rich({"type": "link", "url": "https://e.org/?a&b", "text": "x"}),
            "<https://e.org/?a&amp;b|x>",
        ),
        (rich({"type": "link", "url": "https://e.org"}), "<https://e.org>"),
        (rich({"type": "emoji", "name": "smile", "unicode": "1f604"}), ":smile:"),
        (
            rich({"type": "date", "timestamp": 0, "format": "{date}", "fallback": "1 Jan"}),
            "<!date^0^{date}|1 Jan>",
        ),
        (rich(words("x", style={"code": True})), "`x`"),
        (rich(words("x = 1"), kind="rich_text_preformatted"), "```x = 1```"),
        (rich(words("a\nb"), kind="rich_text_quote"), "&gt; a\n&gt; b"),
        (
            rich(
                {"type": "rich_text_section", "elements": [words("one")]},
                {"type": "rich_text_section", "elements": [words("two")]},
                kind="rich_text_list",
                style="ordered",
                offset=2,
            ),
            "3. one\n4. two",
        ),
        (
            {"type": "section", "text": {"type": "mrkdwn", "text": "*a* <@U1>"}},
            "*a* <@U1>",
        ),
        ({"type": "header", "text": {"type": "plain_text", "text": "a <b>"}}, "a &lt;b&gt;"),
        ({"type": "markdown", "text": "# a"}, "# a"),
        ({"type": "image", "alt_text": "a cat", "image_url": "https://e.org"}, "a cat"),
        ({"type": "divider"}, ""),
        ({"type": "something_new"}, ""),
    ],
)
def test_blocks_as_text(block: dict[str, Any], text: str) -> None:
    assert text_of([block]) == text


TABLE = {
    "type": "table",
    "rows": [
        [{"type": "raw_text", "text": "who"}, {"type": "raw_text", "text": "cake"}],
        [rich({"type": "user", "user_id": "U1"}), {"type": "raw_number", "value": 3}],
    ],
}


def test_a_table_is_read_row_by_row() -> None:
    event = {"text": "see", "blocks": [rich(words("see")), TABLE]}
    assert raw_text(event) == "see"
    assert beside(event) == "who | cake\n<@U1> | 3"
    assert beside({"text": "", "attachments": [{"blocks": [TABLE]}]}) == "who | cake\n<@U1> | 3"


def test_rich_text_stands_in_for_missing_text() -> None:
    event = {"text": "", "blocks": [rich(words("hello "), {"type": "user", "user_id": "U1"})]}
    assert raw_text(event) == "hello <@U1>"
    assert beside(event) == ""


def test_blocks_that_repeat_the_text_are_not_said_twice() -> None:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "It rains"}}
    assert beside({"text": "It  rains", "blocks": [section]}) == ""
    assert beside({"text": "Weather", "blocks": [section]}) == "It rains"


def test_a_preview_has_its_words() -> None:
    page = {"title": "A page", "text": "about <it>", "fallback": "x", "from_url": "https://e.org"}
    assert beside({"text": "see", "attachments": [page]}) == 'Preview: "A page. about <it>"'
    assert beside({"text": "see", "attachments": [{"fallback": "only this"}]}) == (
        'Preview: "only this"'
    )
    assert beside({"text": "see", "attachments": [{"image_url": "https://e.org/x.png"}]}) == ""


def test_names_are_needed_for_all_of_it() -> None:
    share = {"is_share": True, "author_id": "U2", "text": "ask <@U3>"}
    assert raw_beside({"text": "", "blocks": [TABLE], "attachments": [share]}) == [
        "who | cake\n<@U1> | 3",
        "ask <@U3>",
    ]


def test_files_in_a_few_words() -> None:
    files = [
        {"id": "F1", "name": "cat.png", "mimetype": "image/png", "alt_txt": "a cat"},
        {
            "id": "F2",
            "name": "a.txt",
            "title": "Notes",
            "mimetype": "text/plain",
            "preview": "x\ny",
        },
        {"id": "F3", "mode": "tombstone"},
    ]
    assert files_of({"files": files}) == (
        'a picture, cat.png: "a cat"',
        'a file, Notes: "x y"',
        "a file",
    )
