"""A request whose head is read and whose body is still coming in."""

from __future__ import annotations

from sentinel.api.chunks import ChunkedBody
from sentinel.api.heads import Head
from sentinel.api.payment_heads import PaymentHead


class IncomingRequest:
    """What has come in of a request.

    Args:
        head: What its head says.
        text: The head itself.
        chunks: What reads a body in chunks; None for one that says its length.

    Attributes:
        head, text: The same.
        held: Bytes that are kept.
        body: The whole body, once it is complete.
        rest: What came after it, once it is complete.
    """

    __slots__ = ("_chunks", "_content", "_missing", "body", "head", "held", "rest", "text")

    def __init__(self, head: Head | PaymentHead, text: bytes, chunks: ChunkedBody | None) -> None:
        self.head = head
        self.text = text
        self.body = b""
        self.rest = b""
        self.held = 0
        self._content = bytearray()
        self._chunks = chunks
        self._missing = head.length

    def take(self, data: bytes) -> bool:
        """Take what has come in; whether the body is complete.

        Raises:
            ProblemError: 400 if it is malformed, 413 if it is too large.
        """
        missing, chunks = self._missing, self._chunks
        if chunks is not None:
            complete = chunks.take(data)
            self.held = len(chunks.content) + len(chunks.rest)
            if not complete:
                return False
            self.body, self.rest = bytes(chunks.content), chunks.rest
        elif missing > len(data):
            self._content += data
            self._missing = missing - len(data)
            self.held += len(data)
            return False
        elif self._content:
            self._content += data[:missing]
            self.body, self.rest = bytes(self._content), data[missing:]
        else:
            self.body, self.rest = data[:missing], data[missing:]
        return True
