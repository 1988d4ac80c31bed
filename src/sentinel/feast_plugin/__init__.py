"""Feast's side of Sentinel: definitions in, plan out, and the stores Feast loads by class path.

Feast has typeguard check the types of all its calls. For each of some 300 methods typeguard parses
and compiles the whole module again, which makes up four fifths of what importing Feast takes, in
every process. Here constructors alone are checked, which is what definitions call, and each at its
first call.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typeguard

_checked = typeguard.typechecked


@contextmanager
def _checking_constructors_alone() -> Iterator[None]:
    typeguard.typechecked = _constructor_checked  # type: ignore[assignment]
    try:
        yield
    finally:
        typeguard.typechecked = _checked


def _constructor_checked(target: Any) -> Any:
    """`typeguard.typechecked` for a class whose other methods are called by itself."""
    own = vars(target).get("__init__") if isinstance(target, type) else None
    if own is None:
        return target

    @functools.wraps(own)
    def at_first(self: Any, *given: Any, **named: Any) -> None:
        target.__init__ = _checked(own)
        target.__init__(self, *given, **named)

    target.__init__ = at_first
    return target


with _checking_constructors_alone():
    import feast  # noqa: F401
