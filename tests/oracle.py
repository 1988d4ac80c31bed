"""The plain definition of every feature, which all engines are held to."""

from __future__ import annotations

from benchmarks.parity_oracle import Oracle, Value, entity_of, field_of, holds, text_of, to_float32

__all__ = ["Oracle", "Value", "entity_of", "field_of", "holds", "text_of", "to_float32"]
