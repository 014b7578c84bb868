"""Text to token ids and back, for the two vocabularies that RWKV models use.

Byte-level BPE in Hugging Face's `tokenizer.json` (our own models, RWKV-4 Pile), and the RWKV World
vocabulary (greedy longest match over bytes). Both give any text back exactly as long as the file
has no normalizer; a token may end inside a UTF-8 character, which is what `Utf8Stream` is for.
"""

from __future__ import annotations

import ast
import codecs
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from lambda_inference.errors import ModelCorrupt

_PROBE = " héllo, wörld!\n\n👋 1234  it's"


class Tokenizer(Protocol):
    """What the server needs of a vocabulary."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this, less one."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, taken as plain words: reserved tokens in it are not recognised."""

    def reserved(self, text: str) -> int | None:
        """The id of the one token that stands for exactly `text`, reserved tokens included."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; empty for an id that stands for nothing."""


def decode(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
    """Text of `tokens`; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(map(tokenizer.token_bytes, tokens)).decode("utf-8", "replace")


class Utf8Stream:
    """Bytes in, text out as soon as it is whole: half a character waits for its other half."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """Text that `data` completes; a rest that could still become a character is kept."""
        return self._decoder.decode(data)


class BpeTokenizer:
    """Byte-level BPE from the text of a `tokenizer.json`.

    Users may write "<|endoftext|>" or a label such as "User:" in a message. Those must stay words
    and not become the tokens that steer the model, so reserved tokens are never matched in text.
    """

    def __init__(self, source: str, *, reserved: Collection[str] = ()) -> None:
        """Read `source`, keeping the texts in `reserved` out of `encode`.

        Raises:
            ModelCorrupt: not a byte-level BPE that this version can read.
        """
        import tokenizers

        try:
            inner = tokenizers.Tokenizer.from_str(source)
        except Exception as error:  # the Rust side raises plain Exception
            raise ModelCorrupt(f"The tokenizer cannot be read ({error}).") from error
        added = inner.get_added_tokens_decoder()
        self._added = {entry.content: number for number, entry in added.items()}
        self._added_ids = set(self._added.values())
        if any(not entry.special and entry.content in reserved for entry in added.values()):
            inner = tokenizers.Tokenizer.from_str(_without(source, set(reserved)))
        inner.encode_special_tokens = True  # "encode them as text"
        self._inner = inner
        self._all = inner.get_vocab_size(with_added_tokens=True)
        self._texts = {number: content for content, number in self._added.items()}
        self._bytes: dict[int, bytes] = {}
        if (
            b"".join(map(self.token_bytes, self.encode(_PROBE))).decode("utf-8", "replace")
            != _PROBE
        ):
            raise ModelCorrupt("The tokenizer is not a byte-level BPE; no other kind is served.")

    @property
    def vocab_size(self) -> int:
        """See `Tokenizer.vocab_size`."""
        return max(self._all, max(self._added_ids, default=-1) + 1)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Lone surrogates, which no UTF-8 can hold, become "?"."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._inner.encode(clean, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as `encode` gives them, made side by side."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [one.ids for one in self._inner.encode_batch(clean, add_special_tokens=False)]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes: text by BPE, bytes that are not UTF-8 by the token of each.

        Vocabularies such as GPT-NeoX's have no token for the bytes that never occur in UTF-8
        (0xC0, 0xC1, 0xF5 and up); there those become U+FFFD.
        """
        out: list[int] = []
        for part in _split_valid(data):
            if isinstance(part, str):
                out += self.encode(part)
                continue
            for byte in part:
                token = self._inner.token_to_id(_LETTER_OF[byte])
                out += self.encode("\ufffd") if token is None else [token]
        return out

    def reserved(self, text: str) -> int | None:
        """See `Tokenizer.reserved`."""
        if text in self._added:
            return self._added[text]
        tokens = self.encode(text)
        return tokens[0] if len(tokens) == 1 else None

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = self._look_up(token)
        return found

    def _look_up(self, token: int) -> bytes:
        if token in self._texts:
            return self._texts[token].encode()
        name = self._inner.id_to_token(token) if token >= 0 else None
        if name is None:
            return b""
        try:
            return bytes(_BYTE_OF[letter] for letter in name)
        except KeyError:
            return name.encode()


class WorldTokenizer:
    """The RWKV World vocabulary: at each place the longest token that fits."""

    def __init__(self, tokens: dict[int, bytes]) -> None:
        """Take id -> bytes; ids without an entry stand for nothing (0 ends a document).

        Raises:
            ModelCorrupt: some byte has no token of its own, so some text could not be written.
        """
        self._tokens = tokens
        self._ids = {data: number for number, data in tokens.items() if data}
        if missing := [byte for byte in range(256) if bytes([byte]) not in self._ids]:
            raise ModelCorrupt(f"The vocabulary has no token for the byte {missing[0]:#04x}.")
        lengths: dict[bytes, set[int]] = {}
        for data in self._ids:
            if len(data) > 1:
                lengths.setdefault(data[:2], set()).add(len(data))
        # Longest first, by the first two bytes: a match is a few dictionary look-ups.
        self._lengths = {head: tuple(sorted(some, reverse=True)) for head, some in lengths.items()}

    @classmethod
    def from_vocabulary(cls, source: str) -> WorldTokenizer:
        """Read the published text file: a line is an id, a Python literal, a length in bytes.

        Raises:
            ModelCorrupt: a line does not parse, or its length is not that of its bytes.
        """
        heads: list[int] = []
        literals: list[str] = []
        sizes: list[int] = []
        for at, line in enumerate(source.split("\n"), 1):
            text = line.strip()
            if not text:
                continue
            try:
                token, rest = text.split(" ", 1)
                literal, length = rest.rsplit(" ", 1)
                heads.append(int(token))
                sizes.append(int(length))
            except ValueError as error:
                raise ModelCorrupt(f"Line {at} of the vocabulary cannot be read.") from error
            literals.append(literal)
        try:  # one parse of all the literals is several times faster than one parse each
            values = ast.literal_eval("[" + ",\n".join(literals) + "]")
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ModelCorrupt(f"The vocabulary holds a bad literal ({error}).") from error
        if len(values) != len(heads):
            raise ModelCorrupt("The vocabulary holds a line with more than one literal.")
        tokens: dict[int, bytes] = {}
        for number, value, size in zip(heads, values, sizes, strict=True):
            data = value.encode() if isinstance(value, str) else value
            if not isinstance(data, bytes) or len(data) != size or number < 0:
                raise ModelCorrupt(f"Token {number} of the vocabulary is not {size} bytes long.")
            tokens[number] = data
        return cls(tokens)

    @property
    def vocab_size(self) -> int:
        """See `Tokenizer.vocab_size`."""
        return max(self._tokens) + 1

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`. Lone surrogates, which no UTF-8 can hold, become "?"."""
        return self.encode_bytes(text.encode("utf-8", "replace"))

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as `encode` gives them."""
        return [self.encode(text) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes."""
        ids, lengths = self._ids, self._lengths
        out: list[int] = []
        at, end = 0, len(data)
        while at < end:
            for length in lengths.get(data[at : at + 2], ()):
                found = ids.get(data[at : at + length])
                if found is not None and at + length <= end:
                    out.append(found)
                    at += length
                    break
            else:
                out.append(ids[data[at : at + 1]])
                at += 1
        return out

    def reserved(self, text: str) -> int | None:
        """See `Tokenizer.reserved`. Id 0 ends a document and has no bytes, so it gets a name."""
        return 0 if text == "<|endoftext|>" else self._ids.get(text.encode())

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        return self._tokens.get(token, b"")


def _split_valid(data: bytes) -> Sequence[str | bytes]:
    parts: list[str | bytes] = []
    while data:
        try:
            parts.append(data.decode())
            break
        except UnicodeDecodeError as error:
            if error.start:
                parts.append(data[: error.start].decode())
            parts.append(data[error.start : error.end])
            data = data[error.end :]
    return parts


def _without(source: str, contents: set[str]) -> str:
    document = json.loads(source)
    document["added_tokens"] = [
        entry for entry in document["added_tokens"] if entry["content"] not in contents
    ]
    return json.dumps(document)


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes.

    Printable Latin-1 characters stand for themselves; the rest take letters from U+0100 up, in
    order (openai/gpt-2, encoder.py, bytes_to_unicode).
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_letters()
_LETTER_OF = {byte: letter for letter, byte in _BYTE_OF.items()}
