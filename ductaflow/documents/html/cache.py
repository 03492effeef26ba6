"""A small cache of rendered text, bounded by the memory that it holds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar, final

import attrs

V = TypeVar("V")


@final
@attrs.define(eq=False)
class BoundedCache(Generic[V]):
    """The values used last, up to a number of bytes; safe to share between threads.

    Attributes:
        limit: Bytes to hold at most; a value larger than a quarter of it is never kept.
        hits: How many lookups found their value.
        misses: How many did not.
    """

    limit: int
    hits: int = 0
    misses: int = 0
    _entries: OrderedDict[bytes, tuple[V, int]] = attrs.field(factory=OrderedDict, init=False)
    _size: int = attrs.field(default=0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def get(self, key: bytes) -> V | None:
        """The value kept under `key`, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: bytes, value: V, size: int) -> None:
        """Keep `value`, of `size` bytes, and drop the longest unused beyond the limit."""
        if size > self.limit // 4:
            return
        with self._lock:
            _, replaced = self._entries.pop(key, (None, 0))
            self._entries[key] = value, size
            self._size += size - replaced
            while self._size > self.limit:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._size -= dropped
