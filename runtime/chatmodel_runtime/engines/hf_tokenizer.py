"""The tokenizer and chat template of a Hugging Face folder, for the engines that need one.

Imports transformers inside a function: importing this module is cheap.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from chatmodel_runtime.engines import Message
from chatmodel_runtime.errors import BadModel


class HfTokenizer:
    """transformers' tokenizer of one model folder.

    Raises `BadModel`: ModelLoadFailed, or ChatTemplateMissing.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        import transformers

        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._library: Any = transformers.AutoTokenizer.from_pretrained(folder, **options)
        except Exception as error:  # whatever a library raises on a bad file, the model is bad
            raise BadModel("ModelLoadFailed", first_line(error)) from error
        if not self._library.chat_template:
            raise BadModel("ChatTemplateMissing", "the tokenizer has no chat template")
        added = (str(token) for token in self._library.added_tokens_decoder.values())
        # Runs of white space are tokens of some models: harmless, and users' own.
        self.control_words: Sequence[str] = tuple(word for word in added if word.strip())

    @property
    def end_token(self) -> int | None:
        """The token that ends a text."""
        found: int | None = self._library.eos_token_id
        return found

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        """Return the messages in the model's chat format; with `ask`, up to its answer."""
        text: str = self._library.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=ask
        )
        return text

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; control tokens in it are taken for such."""
        tokens: list[int] = self._library(text, add_special_tokens=False)["input_ids"]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, control tokens with it."""
        text: str = self._library.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text


def first_line(error: BaseException) -> str:
    """Return the kind and first line of a library's error; files are ours, so nothing private."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:500]
