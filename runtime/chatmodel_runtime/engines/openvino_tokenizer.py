"""OpenVINO GenAI's tokenizer and chat template, for an IR folder or a GGUF file.

Called by `engines.openvino` in the server's own process; the model runs in another. Text is put
together from the vocabulary here: the library leaves out bytes that are no whole letter yet, and
takes 0.2 ms where this takes a microsecond.
"""

import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from chatmodel_runtime.engines import Message
from chatmodel_runtime.errors import BadModel

# Words that chat formats use for control tokens, whether the tokenizer calls them special or not.
_LOOKS_LIKE_CONTROL = re.compile(rb"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,40}\]")
_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
_BLANK = "\u2581".encode()  # sentencepiece writes a blank like this


def import_library() -> Any:
    """Return openvino_genai.

    OpenVINO reports its import to its maker unless a file in the home folder forbids it; without
    the package that does so it uses a stand-in which does nothing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino_genai  # type: ignore[import-untyped]

    return openvino_genai


class GenAiTokenizer:
    """The tokenizer of one model.

    Raises `BadModel`: ModelLoadFailed, ChatTemplateMissing, or EngineUnsupported when its tokens
    are no pieces of text.
    """

    def __init__(self, path: pathlib.Path) -> None:
        try:
            self._library: Any = import_library().Tokenizer(str(path))
            vocabulary: dict[bytes, int] = self._library.get_vocab()
        except Exception as error:  # whatever a library raises on a bad file, the model is bad
            raise BadModel("ModelLoadFailed", describe(error)) from error
        template = path / "chat_template.jinja"
        if not self._library.chat_template and template.is_file():
            self._library.set_chat_template(template.read_text())
        if not self._library.chat_template:
            raise BadModel("ChatTemplateMissing", "the tokenizer has no chat template")
        self._words = _pieces(vocabulary)
        self._check_words()
        self.control_words: Sequence[str] = self._find_control_words(path, vocabulary)

    @property
    def end_token(self) -> int | None:
        """The token that ends a text."""
        found: int = self._library.get_eos_token_id()
        return found if found >= 0 else None

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        """Return the messages in the model's chat format; with `ask`, up to its answer."""
        text: str = self._library.apply_chat_template(messages, add_generation_prompt=ask)
        return text

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; control tokens in it are taken for such.

        No more than the length the tokenizer was made for: `longest` says which.
        """
        whole = text.encode(errors="replace").decode()  # half a letter is none for the library
        ids = self._library.encode(whole, add_special_tokens=False).input_ids
        found: list[int] = ids.data[0].tolist()
        return found

    def longest(self, most: int) -> int:
        """Return how many tokens `encode` gives at most, as far as `most`."""
        return min(most, len(self.encode("a b " * most)))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, control tokens with it."""
        return b"".join(map(self._word, tokens)).decode(errors="replace")

    def _word(self, token: int) -> bytes:
        return self._words.get(token, b"")

    def _check_words(self) -> None:
        """Hold our reading of the vocabulary against the library's."""
        tokens = sorted(self._words)
        theirs = self._library.decode([[token] for token in tokens], skip_special_tokens=False)
        for token, text in zip(tokens, theirs, strict=True):
            ours = self._words[token].decode(errors="ignore")
            # Either may take a blank at the beginning for the beginning of a text.
            if "\ufffd" not in text and text.lstrip() != ours.lstrip():
                raise BadModel("EngineUnsupported", "the tokens of the model are no pieces of text")

    def _find_control_words(
        self, path: pathlib.Path, vocabulary: dict[bytes, int]
    ) -> tuple[str, ...]:
        """Return special tokens, tokens that were added, and words that are read as one token."""
        words = [word for word in vocabulary if word.strip()]
        alone = [[vocabulary[word]] for word in words]
        shown = self._library.decode(alone, skip_special_tokens=True)
        found = set(_added_words(path))
        for word, text in zip(words, shown, strict=True):
            name = word.decode(errors="ignore")
            is_special = not text and name.encode() == word
            if is_special or (_LOOKS_LIKE_CONTROL.fullmatch(word) and self._is_one(word, name)):
                found.add(name)
        return tuple(sorted(found))

    def _is_one(self, word: bytes, name: str) -> bool:
        """Say whether a word is one token even where letters stand on both sides of it."""
        return any(self._word(token) == word for token in self.encode(f"a{name}a"))


def _pieces(vocabulary: dict[bytes, int]) -> dict[int, bytes]:
    """Return the bytes of every token."""
    if b"<0x0A>" not in vocabulary:
        return {token: word for word, token in vocabulary.items()}
    pieces = {}
    for word, token in vocabulary.items():
        byte = _BYTE.fullmatch(word)
        pieces[token] = bytes.fromhex(byte[1].decode()) if byte else word.replace(_BLANK, b" ")
    return pieces


def _added_words(path: pathlib.Path) -> list[str]:
    """Return the tokens that a folder's own files say were added to the vocabulary."""
    config = path / "tokenizer_config.json"
    if not config.is_file():
        return []
    body = json.loads(config.read_text())
    added = body.get("added_tokens_decoder") or {}
    return [entry["content"] for entry in added.values() if entry["content"].strip()]


def describe(error: BaseException) -> str:
    """Return the kind and last line of a library's error; it holds numbers and names of files.

    The lines before say where in the library's source it was raised.
    """
    text = (str(error).strip().splitlines() or [""])[-1]
    return f"{type(error).__name__}: {text}"[:500]
