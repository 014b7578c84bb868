"""Block Kit as raw message text: what `text` would have been, had Slack or the app written it.

Reference: https://docs.slack.dev/reference/block-kit/blocks. The composer's own messages are
`rich_text` (and tables); the other blocks come from apps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bot.core.wording import table

Block = Mapping[str, Any]


def text_of(blocks: Iterable[Block]) -> str:
    """The words of blocks, a paragraph each, in Slack's markup."""
    return "\n".join(text for block in blocks if (text := _block(block)))


def written(text: str) -> str:
    """Plain text in Slack's markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block(block: Block) -> str:
    match block.get("type"):
        case "rich_text":
            return _rich_text(block)
        case "table" | "data_table":
            rows = [[_cell(cell) for cell in row] for row in block.get("rows") or ()]
            return _lines(_text(block.get("caption")), table(rows))
        case "section":
            return _lines(_text(block.get("text")), *map(_text, block.get("fields") or ()))
        case "header" | "markdown":
            return _text(block.get("text"))
        case "context":
            return " ".join(map(_text, block.get("elements") or ()))
        case "image":
            return _lines(_text(block.get("title")), _text(block.get("alt_text")))
        case "video":
            return _lines(_text(block.get("title")), _text(block.get("description")))
    return ""


def _text(item: Any) -> str:
    """A text object, an element that holds one, or plain words."""
    if isinstance(item, str):
        return written(item)
    if not isinstance(item, Mapping):
        return ""
    if item.get("type") == "mrkdwn":
        return str(item.get("text") or "")
    return _text(item.get("text") or item.get("alt_text") or "")


def _cell(cell: Block) -> str:
    if cell.get("type") == "rich_text":
        return _rich_text(cell).replace("\n", " ")
    words = cell.get("text")
    return written(str(cell.get("value", "") if words is None else words))


def _rich_text(block: Block) -> str:
    return _lines(*map(_paragraph, block.get("elements") or ()))


def _paragraph(part: Block) -> str:
    elements = part.get("elements") or ()
    match part.get("type"):
        case "rich_text_list":
            start = int(part.get("offset") or 0) + 1
            numbered = part.get("style") == "ordered"
            return "\n".join(
                f"{number}. {_paragraph(item)}" if numbered else f"• {_paragraph(item)}"
                for number, item in enumerate(elements, start)
            )
        case "rich_text_quote":
            quoted = "".join(map(_element, elements)).rstrip("\n")
            return "\n".join(f"&gt; {line}" for line in quoted.split("\n"))
        case "rich_text_preformatted":
            return f"```{''.join(map(_element, elements))}```"
    return "".join(map(_element, elements)).rstrip("\n")


def _element(element: Block) -> str:
    match element.get("type"):
        case "text":
            text = written(str(element.get("text") or ""))
            is_code = (element.get("style") or {}).get("code")
            return f"`{text}`" if is_code else text
        case "user":
            return f"<@{element.get('user_id', '')}>"
        case "usergroup":
            return f"<!subteam^{element.get('usergroup_id', '')}>"
        case "channel":
            return f"<#{element.get('channel_id', '')}>"
        case "broadcast":
            return f"<!{element.get('range', '')}>"
        case "link":
            url, text = str(element.get("url") or ""), written(str(element.get("text") or ""))
            return f"<{written(url)}|{text}>" if text else f"<{written(url)}>"
        case "emoji":
            return f":{element.get('name', '')}:"
        case "date":
            fallback = written(str(element.get("fallback") or ""))
            date = f"!date^{element.get('timestamp', '')}^{element.get('format', '')}"
            return f"<{date}|{fallback}>"
        case "color":
            return str(element.get("value") or "")
    return ""


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
