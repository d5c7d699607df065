"""A look at what passes on a connection: its messages, or the pieces of what is only relayed.

`Tap` is a codec around a connection's codec, while somebody looks; a session of a guard, which has
none, shows its bytes itself, and `PieceTap` makes of them what a tap shows. A connection on which
nobody looks has nothing of either, so that it costs nothing.
"""

from __future__ import annotations

import codecs
import logging
import reprlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias

from .charset import Charset
from .errors import PeerError
from .framing import Codec

__all__ = ["MOST_SHOWN", "Passed", "PieceTap", "Tap"]

#: Bytes of one message that are shown.
MOST_SHOWN = 4096

Direction: TypeAlias = Literal["in", "out"]

_log = logging.getLogger("tieline")


class Tappable(Protocol):
    """A connection, as far as a tap is concerned."""

    def exchange_codec(self, codec: Codec) -> Codec: ...


class Lookable(Protocol):
    """A session, as far as a tap is concerned."""

    def look(self, show: Callable[[Direction, bytes], object]) -> None: ...

    def look_away(self, show: Callable[[Direction, bytes], object]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One message as it passed, without its framing; or one piece of a stream that is relayed.

    Attributes:
        time: when, in seconds since 1970 (`time.time`).
        direction: `in` from the peer, `out` to it.
        size: bytes of all of it.
        data: its first bytes. Those of text that came in are what the charset has for it.
        text: the same as text; `None` if it is none.
        error: why the connection could not read on; then `data` is what came last.
    """

    time: float
    direction: Direction
    size: int
    data: bytes
    text: str | None
    error: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than is shown."""
        return self.size > len(self.data)


class _Viewer:
    """Whoever looks. What he raises is logged once, and hurts nobody else."""

    __slots__ = ("_failed", "_show")

    def __init__(self, show: Callable[[Passed], object]) -> None:
        self._show = show
        self._failed = False

    def tell(self, passed: Passed) -> None:
        """Show it to him."""
        try:
            self._show(passed)
        except Exception:
            # Once is enough to know.
            if not self._failed:
                self._failed = True
                _log.exception("what looks at a connection failed")


class Tap(Codec):
    """Shows every message of a connection to whoever looks, until `remove`.

    Args:
        connection: on which it is put at once; several may be on one connection.
        show: called with each message, in the turn in which it passes: it must return quickly
            and keep little. What it raises is logged once, and hurts nobody else.
        most: bytes of a message that are shown (default 4096).

    Attributes:
        is_on: whether it shows what passes.
        messages: how many it has shown.
    """

    __slots__ = ("_connection", "_inner", "_most", "_viewer", "is_on", "messages")

    def __init__(
        self, connection: Tappable, show: Callable[[Passed], object], most: int = MOST_SHOWN
    ) -> None:
        self._connection = connection
        self._viewer = _Viewer(show)
        self._most = most
        self.messages = 0
        self.is_on = True
        self._inner = connection.exchange_codec(self)

    def remove(self) -> None:
        """Look no more. The connection has its own codec again. Idempotent."""
        if not self.is_on:
            return
        self.is_on = False
        outer = self._connection.exchange_codec(self._inner)
        if outer is not self:
            # Others were put over this one, and stay: this one leaves from between them.
            self._connection.exchange_codec(outer)
            while isinstance(outer, Tap) and outer._inner is not self:
                outer = outer._inner
            if isinstance(outer, Tap):
                outer._inner = self._inner

    # ---- What a codec does

    @property
    def quiet(self) -> float | None:
        return self._inner.quiet

    @property
    def encoding(self) -> str | None:
        return self._inner.encoding

    @property
    def incomplete(self) -> bool:
        return self._inner.incomplete

    @property
    def pending(self) -> int:
        return self._inner.pending

    def feed(self, data: bytes) -> list[Any]:
        return self._shown(lambda: self._inner.feed(data), data)

    def end(self) -> list[Any]:
        return self._shown(self._inner.end, b"")

    def quiet_passed(self) -> list[Any]:
        return self._shown(self._inner.quiet_passed, b"")

    def pack(self, message: Any) -> bytes:
        packed = self._inner.pack(message)
        self._pass_on("out", message)
        return packed

    # ---- Showing

    def _shown(self, produce: Callable[[], list[Any]], data: bytes) -> list[Any]:
        try:
            messages = produce()
        except PeerError as error:
            for message in error.completed:
                self._pass_on("in", message)
            self._viewer.tell(
                Passed(
                    time=time.time(), direction="in", size=len(data),
                    data=bytes(data[: self._most]), text=None, error=str(error),
                )
            )  # fmt: skip
            raise
        for message in messages:
            self._pass_on("in", message)
        return messages

    def _pass_on(self, direction: Direction, message: Any) -> None:
        if not self.is_on:
            return
        self.messages += 1
        if isinstance(message, (bytes, bytearray, memoryview)):
            data, size = bytes(message[: self._most]), len(message)
            text = _text_of(data, whole=size == len(data))
        elif isinstance(whole := getattr(message, "data", None), bytes):
            # A message of an application's own codec that knows its bytes, and perhaps its text.
            data, size = whole[: self._most], len(whole)
            text = getattr(message, "text", None)
            text = text[: self._most] if isinstance(text, str) else None
        else:
            # A codec of the application's own may make anything of a message.
            text = message if isinstance(message, str) else reprlib.repr(message)
            written = text.encode(_written_in(self._inner.encoding), "replace")
            data, size = written[: self._most], len(written)
            text = text[: self._most]
        self._viewer.tell(
            Passed(time=time.time(), direction=direction, size=size, data=data, text=text)
        )  # fmt: skip


class PieceTap:
    """Shows what a guard relays for a session, both ways, to whoever looks, until `remove`.

    Bytes are shown in the pieces in which they pass, which is not in messages. A character that is
    cut apart is in the text of the piece that has its end.

    Args:
        session: at which it looks from now on; several may look at one.
        show: as for `Tap`, called with each piece.
        most: bytes of a piece that are shown (default 4096).

    Attributes:
        is_on: whether it shows what passes.
        messages: how many pieces it has shown.
    """

    __slots__ = ("_most", "_session", "_texts", "_viewer", "is_on", "messages")

    def __init__(
        self, session: Lookable, show: Callable[[Passed], object], most: int = MOST_SHOWN
    ) -> None:
        self._session = session
        self._viewer = _Viewer(show)
        self._most = most
        self._texts = {"in": _PieceText(), "out": _PieceText()}
        self.messages = 0
        self.is_on = True
        session.look(self)

    def remove(self) -> None:
        """Look no more. Idempotent."""
        if self.is_on:
            self.is_on = False
            self._session.look_away(self)

    def __call__(self, direction: Direction, piece: bytes) -> None:
        """Not for applications: a piece passes."""
        if not self.is_on:
            return
        self.messages += 1
        data = bytes(piece[: self._most])
        text = self._texts[direction].read(data, piece[self._most :])
        self._viewer.tell(
            Passed(time=time.time(), direction=direction, size=len(piece), data=data, text=text)
        )  # fmt: skip


class _PieceText:
    """The text of one direction's pieces, which may begin and end inside a character."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read(self, shown: bytes, rest: bytes) -> str | None:
        """The text of what is shown; `None` if it is none. `rest`: of the piece, not shown."""
        text: str | None = None
        try:
            text = self._decoder.decode(shown)
            self._decoder.decode(rest)
        except UnicodeDecodeError:
            # What follows may be text again.
            self._decoder.reset()
        return text


def _text_of(data: bytes, whole: bool) -> str | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data, final=whole)
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=64)
def _written_in(encoding: str | None) -> str:
    """The charset whose bytes stand for text that is read in another: GB18030 for GBK."""
    return "utf-8" if encoding is None else Charset(encoding).read_as
