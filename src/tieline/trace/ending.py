"""When a reply is whole: a codec says so, or whoever asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import MessageTooLargeError, PeerError
from ..framing import Codec
from ..limits import DEFAULT_MAXIMUM

__all__ = ["ReplyEnding"]


class ReplyEnding:
    """Is given a reply as it comes.

    Args:
        rule: a codec: whole with its first message. A function: whole when it returns true, being
            given all that has come so far. `None`: whole with the first bytes.
    """

    def __init__(self, rule: Codec | Callable[[bytes], bool] | None) -> None:
        self._rule = rule
        self._so_far = bytearray()
        self.is_whole = False

    @property
    def quiet(self) -> float | None:
        """Seconds of silence after which `fall_silent` is to be called; `None`: never."""
        return self._rule.quiet if isinstance(self._rule, Codec) else None

    def take(self, piece: bytes) -> None:
        """The next bytes of it.

        Raises:
            PeerError: they cannot be read, or are too many.
        """
        if isinstance(self._rule, Codec):
            self._ask(lambda codec: codec.feed(piece))
        elif self._rule is None:
            self.is_whole = True
        else:
            self._so_far += piece
            if len(self._so_far) > DEFAULT_MAXIMUM:
                raise MessageTooLargeError(maximum=DEFAULT_MAXIMUM, size=len(self._so_far))
            self.is_whole = self._rule(bytes(self._so_far))

    def fall_silent(self) -> None:
        """Nothing has come for `quiet` seconds.

        Raises:
            PeerError: what came before cannot be read.
        """
        self._ask(lambda codec: codec.quiet_passed())

    def end(self) -> None:
        """The peer has ended its stream.

        Raises:
            PeerError: it did so inside a message.
        """
        self._ask(lambda codec: codec.end())

    def _ask(self, question: Callable[[Codec], list[Any]]) -> None:
        if not isinstance(self._rule, Codec):
            return
        try:
            messages = question(self._rule)
        except PeerError as error:
            # What is wrong comes after a whole reply.
            messages = error.completed
            if not messages:
                raise
        self.is_whole = self.is_whole or bool(messages)
