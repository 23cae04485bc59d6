"""Where the bodies of `tiny_world` are stored: never changed in place, and equal ones only once.

`tiny_cluster` stores there what the operator writes; `telling` empties it and looks for changes.
Bodies have most of their parts in common, as metadata, spec and status: a part that is stored is
known again by its id, so that only what is new in a body has to be read.
"""

import itertools
import json
from typing import Any

from chatmodel_operator.cache import Stored

Raw = dict[str, Any]
_write = json.JSONEncoder(sort_keys=True, check_circular=False).encode


class Table:
    """Every body that was ever stored, once, and every part of one."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, frozenset[tuple[str, str]]], Raw] = {}
        self._parts: dict[str, Any] = {}
        self._texts: dict[int, str] = {}  # of parts that stay until `clear`: an id is one part's
        self._versions = itertools.count(1)

    def clear(self) -> None:
        """Forget every body."""
        for each in (self.bodies, self._parts, self._texts):
            each.clear()

    def keep(self, kind: str, body: Raw) -> Raw:
        """Return the one body that is equal to this one; its resourceVersion stands for it."""
        if isinstance(body, Stored):
            return body
        texts = {name: self._keep_part(part) for name, part in body.items()}
        key = (kind, frozenset(texts.items()))
        found = self.bodies.get(key)
        if found is None:
            found = Stored({name: self._parts[text] for name, text in texts.items()})
            version = {"resourceVersion": str(next(self._versions))}
            found["metadata"] = found["metadata"] | version
            self._texts[id(found["metadata"])] = texts["metadata"]
            self.bodies[key] = found
        return found

    def changed_in_place(self) -> list[str]:
        """Return the names of bodies that are not what they were stored as."""
        return [
            body["metadata"]["name"]
            for (_, stored), body in self.bodies.items()
            if stored != {(name, _text(part)) for name, part in body.items()}
        ]

    def _keep_part(self, part: Any) -> str:
        """Return the text of a part, of which the first of this text is kept."""
        known = self._texts.get(id(part))
        if known is not None:
            return known
        text = _text(part)
        if text not in self._parts:
            self._parts[text] = part
            self._texts[id(part)] = text
        return text


def _text(part: Any) -> str:
    if isinstance(part, dict) and "resourceVersion" in part:
        part = {key: value for key, value in part.items() if key != "resourceVersion"}
    return _write(part)


TABLE = Table()


def merged(there: Raw, part: str, body: Raw) -> Raw:
    """Return a body with a merge patch in one of its parts; None takes a key away."""
    found = (there.get(part) or {}) | body
    return there | {part: {key: value for key, value in found.items() if value is not None}}
