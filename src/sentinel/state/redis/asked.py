"""Stand-ins for an arena that note which records an encoder asks for."""

from __future__ import annotations

from sentinel.state.redis.layout import Record


class AskedRecords:
    """Notes the records that events are about, in their order."""

    def __init__(self, views: int) -> None:
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in range(views))
        self.records: list[Record] = []

    def locate(self, view: int, key: str) -> int:
        """The place in ``records`` of a record that is named next."""
        self.records.append((view, key))
        return len(self.records) - 1

    find = locate


class RowsByRecord:
    """Notes for each record the rows of events that are about it.

    Attributes:
        row: The row that is encoded next; set by whoever encodes.
        rows_of: The rows that name each record, in order.
    """

    def __init__(self, views: int) -> None:
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in range(views))
        self.row = 0
        self.rows_of: dict[Record, list[int]] = {}

    def locate(self, view: int, key: str) -> int:
        """Note that the row names a record; always the place 0."""
        rows = self.rows_of.get((view, key))
        if rows is None:
            self.rows_of[view, key] = [self.row]
        else:
            rows.append(self.row)
        return 0

    find = locate
