"""What a bench is to do: an immutable description, checked."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum

from ..address import Address
from ..charset import Charset
from ..errors import SettingError, UsageError
from ..framing import Framing, Gap, Raw
from ..limits import DEFAULT_MAXIMUM
from ..tls import TlsSocket, name_to_prove
from .expecting import ANY_ANSWER, Expectation
from .messages import Messages

__all__ = ["Ending", "Mode", "Plan"]

_RAW = Raw()


class Mode(StrEnum):
    """How connections are used."""

    #: Each carries exchange after exchange.
    LONG = "long"
    #: Each carries one exchange.
    SHORT = "short"
    #: Some of the places make short ones, the others hold long ones.
    MIXED = "mixed"
    #: They are opened and kept; a heartbeat, if any, is all that passes.
    HOLD = "hold"
    #: They all come at once, and stay until the last one is through.
    STORM = "storm"


class Ending(StrEnum):
    """How a connection of ours ends."""

    #: We end our stream first, and wait for the server's end: TIME_WAIT stays here.
    FIN = "fin"
    #: We reset it: nothing stays.
    RESET = "reset"
    #: The server ends first: TIME_WAIT stays there.
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of load against one address.

    Attributes:
        address: the server.
        mode: how connections are used.
        connections: places: how many connections there are at once (default 1).
        pipeline: messages that a connection may have unanswered (default 1).
        rate: open loop: exchanges a second over all connections, each due at its own instant, from
            which its time counts; in `SHORT` that many connections, in `HOLD` and `STORM` that
            many are opened a second. `None` (default): closed loop, the next as soon as the last
            is answered.
        ramp: seconds over which the places begin (closed loop), or the rate rises (open loop).
        duration: seconds that are measured, after the warm-up; `None`: until `count`.
        count: exchanges that are measured; `None`: until `duration` is over.
        warmup: seconds before anything is measured (default 0).
        exchanges: exchanges after which a long connection is closed and another opened; `None`
            (default): never.
        think: seconds between an answer and the next message of its connection (default 0).
        short_share: in `MIXED`, the share of the places that make short connections.
        heartbeat: in `HOLD`, seconds between two messages of a connection; `None`: none is sent.
        messages: what is sent; `None`, in `HOLD` and `STORM`, for nothing.
        expectation: what an answer must be.
        framing: where messages end.
        charset: what text is written in; `None` for bytes.
        max_message: the largest answer, in bytes.
        connect_timeout: seconds that opening a connection may take, TLS included.
        reply_timeout: seconds that an answer may take.
        ending: how connections end.
        sources: addresses of this machine to call from, in turn; empty: the system's choice.
        tls: a client's context; `None` for none.
        server_name: the name that the server must prove, in place of the address's host.
        processes: processes that share the places and the rate.
    """

    address: Address
    mode: Mode = Mode.LONG
    connections: int = 1
    pipeline: int = 1
    rate: float | None = None
    ramp: float = 0.0
    duration: float | None = 10.0
    count: int | None = None
    warmup: float = 0.0
    exchanges: int | None = None
    think: float = 0.0
    short_share: float = 0.5
    heartbeat: float | None = None
    messages: Messages | None = None
    expectation: Expectation = ANY_ANSWER
    framing: Framing = _RAW
    charset: Charset | None = None
    max_message: int = DEFAULT_MAXIMUM
    connect_timeout: float = 5.0
    reply_timeout: float = 10.0
    ending: Ending = Ending.FIN
    sources: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("connections", "pipeline", "count", "exchanges", "processes"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise SettingError("{name} is at least 1, not {value}", name=name, value=number)
        for name in ("rate", "duration", "heartbeat", "connect_timeout", "reply_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise SettingError("{name} is above 0, not {value}", name=name, value=seconds)
        for name in ("ramp", "warmup", "think"):
            seconds = getattr(self, name)
            if not seconds >= 0:
                raise SettingError("{name} is not below 0: {value}", name=name, value=seconds)
        if not 0 <= self.short_share <= 1:
            raise SettingError(
                "{name} is between 0 and 1, not {value}",
                name="short_share", value=self.short_share,
            )  # fmt: skip
        self._check_pairs()

    @property
    def name_to_prove(self) -> str | None:
        """The name that the server's certificate must have; `None` without TLS.

        Raises:
            SettingError: the context is a server's, or wants a name where there is none.
        """
        if self.tls is None:
            return None
        return name_to_prove(self.tls, self.server_name, self.address)

    @property
    def short_places(self) -> int:
        """Places that make short connections; of both kinds there is one at least in `MIXED`,
        unless the share is 0 or 1."""
        if self.mode is not Mode.MIXED:
            return self.connections if self.mode is Mode.SHORT else 0
        number = round(self.connections * self.short_share)
        if 0 < self.short_share < 1 and self.connections > 1:
            number = min(max(number, 1), self.connections - 1)
        return number

    def _check_pairs(self) -> None:
        """Say what makes no sense together."""
        talks = self.mode in (Mode.LONG, Mode.SHORT, Mode.MIXED)
        if talks and self.messages is None:
            raise UsageError("the mode {mode} needs a message", mode=self.mode.value)
        if self.duration is None and self.count is None:
            raise UsageError("a bench needs an end: a duration or a count")
        wrong = {
            "pipeline": self.pipeline > 1 and self.mode is not Mode.LONG,
            "exchanges": self.exchanges is not None and self.mode is not Mode.LONG,
            "think": self.think > 0 and (self.mode not in (Mode.LONG, Mode.MIXED)),
            "heartbeat": self.heartbeat is not None and self.mode is not Mode.HOLD,
            "count": self.count is not None and not talks,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise UsageError(
                    "{name} means nothing in the mode {mode}", name=name, mode=self.mode.value
                )
        if self.pipeline > 1 and self.think:
            raise UsageError("several messages under way leave no time to think")
        if self.heartbeat is not None and self.messages is None:
            raise UsageError("a heartbeat needs a message")
        if self.rate is not None and self.think:
            raise UsageError("a rate and a time to think exclude each other: one of them paces")
        if self.processes > self.connections:
            raise UsageError(
                "{processes} processes need at least as many connections, not {connections}",
                processes=self.processes, connections=self.connections,
            )  # fmt: skip
        if self.pipeline > 1 and isinstance(self.framing, Raw):
            raise UsageError(
                "with several messages under way a framing has to say where an answer ends"
            )
        if self.pipeline > 1 and isinstance(self.framing, Gap):
            raise UsageError("where silence ends a message, one at a time can be under way")
        if self.tls is not None:
            # A name that cannot be one is better known before the first connection.
            with socket.socket() as probe:
                TlsSocket(probe, self.tls, server_side=False, server_name=self.name_to_prove)
        if self.address.is_unix and self.sources:
            raise UsageError("a Unix socket has no source addresses")
