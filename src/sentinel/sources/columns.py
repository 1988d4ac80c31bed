"""Columns of any type to ids, categories and numbers: those of the one normaliser."""

from __future__ import annotations

from sentinel.ingest.columns import (
    address_column,
    category_column,
    flat,
    id_column,
    is_text,
    joined_id,
    mask_of,
    number_column,
)
from sentinel.ingest.values import NUMBER_PATTERN

__all__ = [
    "NUMBER_PATTERN",
    "address_column",
    "category_column",
    "flat",
    "id_column",
    "is_text",
    "joined_id",
    "mask_of",
    "number_column",
]
