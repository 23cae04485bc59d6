"""Kubernetes quantities: 1Gi, 500m, 2. Pure."""

import decimal
import re

_FORM = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|)")
_UNITS = {"m": decimal.Decimal("0.001"), "": decimal.Decimal(1)}
for _power, _unit in enumerate("kMGT", start=1):
    _UNITS[_unit] = decimal.Decimal(1000**_power)
    _UNITS[f"{_unit.upper()}i"] = decimal.Decimal(1024**_power)


def parse(text: str) -> decimal.Decimal | None:
    """Return the number a quantity stands for, or None for any other text."""
    found = _FORM.fullmatch(text)
    return decimal.Decimal(found[1]) * _UNITS[found[2]] if found is not None else None


def parse_bytes(text: str) -> int:
    """Return whole bytes; 0 for what is no quantity."""
    return int(parse(str(text)) or 0)


def is_same(one: str, other: str) -> bool:
    """Say whether two texts are one quantity: the server writes 1024Mi as 1Gi, 1000m as 1."""
    first, second = parse(one), parse(other)
    return first is not None and first == second


def format_bytes(count: int) -> str:
    """Return bytes for people: 1.5 GB, 272 MB."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
