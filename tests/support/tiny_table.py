"""Where the bodies of `tiny_world` are stored: never changed in place, and equal ones only once.

`tiny_cluster` stores there what the operator writes; `telling` empties it and looks for changes.
"""

import itertools
import json
from typing import Any

from chatmodel_operator.cache import Stored

Raw = dict[str, Any]


class Table:
    """Every body that was ever stored, once."""

    def __init__(self) -> None:
        self.bodies: dict[str, Raw] = {}
        self._versions = itertools.count(1)

    def keep(self, kind: str, body: Raw) -> Raw:
        """Return the one body that is equal to this one; its resourceVersion stands for it."""
        if isinstance(body, Stored):
            return body
        text = self._text(kind, body)
        found = self.bodies.get(text)
        if found is None:
            meta = body["metadata"] | {"resourceVersion": str(next(self._versions))}
            found = self.bodies[text] = Stored(body | {"metadata": meta})
        return found

    def changed_in_place(self) -> list[str]:
        """Return the names of bodies that are not what they were stored as."""
        return [
            body["metadata"]["name"]
            for text, body in self.bodies.items()
            if self._text(text[: text.index("{")], body) != text
        ]

    @staticmethod
    def _text(kind: str, body: Raw) -> str:
        meta = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
        return kind + json.dumps(body | {"metadata": meta}, sort_keys=True)


TABLE = Table()
