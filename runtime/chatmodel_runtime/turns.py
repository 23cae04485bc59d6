"""Turns on the engine: so many at once, the rest in order. Knows nothing of what runs.

Called by `scheduling`.
"""

import asyncio
import collections


class Slots:
    """So many at once; the rest wait in order, but for those that go ahead."""

    def __init__(self, free: int) -> None:
        self._free = free
        self.taken = 0
        self._queue: collections.deque[asyncio.Future[None]] = collections.deque()

    def take_free(self) -> bool:
        """Take a slot if one is free; there is none while somebody waits."""
        if self._free <= 0:
            return False
        self._free -= 1
        self.taken += 1
        return True

    async def take(self, *, ahead: bool) -> None:
        """Wait for a slot."""
        if self.take_free():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if ahead else self._queue.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()  # its turn had come in the same moment
            raise
        self.taken += 1

    def give_back(self) -> None:
        """Hand the slot to who is next."""
        self.taken -= 1
        self._hand_on()

    def _hand_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # who has left is still in the queue
                turn.set_result(None)
                return
        self._free += 1
