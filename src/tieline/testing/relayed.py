"""A connection through the relay: two sockets, and a lane for each direction between them.

An end in good order is carried as one, a reset as one. A reset does not wait for a receiver that
takes nothing, as none does on a network: what the receiver has not taken by then is lost.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from ..address import Address
from ..reactor import READABLE, WRITABLE, Reactor
from .effects import Effect, End
from .faults import Fault
from .lane import Finish, Lane, Pass, Wait

__all__ = ["CallLater", "Direction", "Owner", "RelayedConnection", "Timer", "reset_socket"]

#: From the client to the upstream, or back.
Direction: TypeAlias = Literal["up", "down"]

_READ_SIZE = 65_536

#: Rounds of the loop after a piece that is to be alone: a task of the same loop that waits for it
#: needs a few until it waits for the next.
_ROUNDS = 8

_LINGER_ZERO = struct.pack("ii", 1, 0)

#: Watched for nothing: epoll then tells of an error or a hang-up once, not again and again.
_NOTHING = select.EPOLLONESHOT
_GONE = select.EPOLLERR | select.EPOLLHUP


class Timer(Protocol):
    """What comes back from setting a timer."""

    def cancel(self) -> object:
        """Have it not go off."""


#: Has something called so many seconds later.
CallLater: TypeAlias = Callable[[float, Callable[[], object]], Timer]


class Owner(Protocol):
    """Whoever made the connection: the relay."""

    clock: Callable[[], float]
    call_later: CallLater

    def connection_gone(self, connection: RelayedConnection, was_reset: bool) -> None:
        """It is over. `was_reset`: by a call of `reset`."""


def reset_socket(connected: Any) -> None:
    """Close a socket with a reset (over a Unix socket: close it)."""
    with contextlib.suppress(OSError):  # its peer has left already
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    connected.close()


class RelayedConnection:
    """A client's connection to the relay, and what goes on from there to the upstream.

    Attributes:
        number: 1 for the relay's first.
        client: where the client comes from, as the relay sees it.
        source: where it comes from, as the upstream sees it: an address of the relay.
    """

    def __init__(
        self,
        owner: Owner,
        reactor: Reactor,
        number: int,
        client: Any,
        client_address: Address,
        upstream: socket.socket,
        max_held: int,
    ) -> None:
        """Not for applications: take over two connected, non-blocking sockets."""
        self.number = number
        self.client = client_address
        self.source = Address.from_socket_name(upstream.family, upstream.getsockname())
        self._owner = owner
        self._is_closed = False
        self._has_changed = False
        sides = _Side(self, reactor, client), _Side(self, reactor, upstream)
        self._sides = sides
        self._flows: dict[Direction, _Flow] = {
            "up": _Flow(self, owner, Lane(max_held), *sides),
            "down": _Flow(self, owner, Lane(max_held), *reversed(sides)),
        }

    @property
    def bytes_up(self) -> int:
        """Bytes that the upstream has been given."""
        return self._flows["up"].lane.carried

    @property
    def bytes_down(self) -> int:
        """Bytes that the client has been given."""
        return self._flows["down"].lane.carried

    @property
    def held(self) -> int:
        """Bytes that the relay holds, of both directions."""
        return sum(flow.lane.held for flow in self._flows.values())

    def reset(self) -> None:
        """Cut it off now (RST on both sides). Idempotent."""
        if not self._is_closed:
            self._end(reset=True)
            self._owner.connection_gone(self, was_reset=True)

    def __repr__(self) -> str:
        state = "over" if self._is_closed else f"{self.bytes_up} up, {self.bytes_down} down"
        return f"<RelayedConnection {self.number} from {self.client}: {state}>"

    # ---- For the relay

    def meet(self, fault: Fault, effects: dict[Direction, Effect]) -> None:
        """Not for applications: meet a fault, in these directions."""
        for direction, effect in effects.items():
            self._flows[direction].lane.meet(fault, effect)
        self.go_on()

    def leave(self, fault: Fault) -> None:
        """Not for applications: meet it no more."""
        for flow in self._flows.values():
            flow.lane.leave(fault)
        self.go_on()

    def close(self) -> None:
        """Not for applications: let go of it, as a relay that is stopped does. What may pass at
        once still does."""
        for side in self._sides:
            if side.incoming.lane.wants_more:
                side.read()
        self.go_on()
        if not self._is_closed:
            self._end(reset=False)
            self._owner.connection_gone(self, was_reset=False)

    def go_on(self) -> None:
        """Not for applications: something has happened; do what may be done now."""
        self._has_changed = True
        while self._has_changed:
            self._has_changed = False
            for flow in self._flows.values():
                if not self._is_closed:
                    flow.go_on()
        if self._is_closed:
            return
        if all(flow.lane.is_over for flow in self._flows.values()):
            self._end(reset=False)
            self._owner.connection_gone(self, was_reset=False)
            return
        for side in self._sides:
            side.watch()

    def side_is_gone(self) -> None:
        """Not for applications: what one direction did concerns the other."""
        self._has_changed = True

    def carry_reset(self) -> None:
        """Not for applications: a reset has come across."""
        self._end(reset=True)
        self._owner.connection_gone(self, was_reset=False)

    def _end(self, *, reset: bool) -> None:
        self._is_closed = True
        for flow in self._flows.values():
            flow.stop()
        for side in self._sides:
            side.close(reset=reset)


class _Flow:
    """One direction: gives to the one side what the lane lets pass of the other's."""

    def __init__(
        self,
        connection: RelayedConnection,
        owner: Owner,
        lane: Lane,
        source: _Side,
        target: _Side,
    ) -> None:
        self.lane = lane
        self._connection = connection
        self._owner = owner
        self._target = target
        self._timer: Timer | None = None
        #: Rounds of the loop before anything may pass again.
        self._rests = 0
        source.incoming = target.outgoing = self

    @property
    def now(self) -> float:
        return self._owner.clock()

    def go_on(self) -> None:
        """Do what the lane says, until there is something to wait for."""
        if self._rests:
            return
        self.stop()
        while True:
            match self.lane.next(self.now):
                case Pass(data, alone):
                    if not self._pass(data):
                        return
                    if alone:
                        self._rests = _ROUNDS
                        self._wait(0.0)
                        return
                case Finish(End.RESET):
                    self._connection.carry_reset()
                    return
                case Finish():
                    self._target.end()
                case Wait(until):
                    if until < math.inf:
                        self._wait(until - self.now)
                    return
                case None:
                    return

    def _pass(self, data: memoryview) -> bool:
        """Whether to go on."""
        try:
            if self._target.is_blocked:
                raise BlockingIOError
            sent = self._target.socket.send(data)
        except BlockingIOError:
            if not self.lane.source_reset:
                self._target.is_blocked = True
                return False
            # The reset behind these bytes overtakes them.
            sent = len(data)
        except OSError:
            self._target.was_reset()
            return False
        self.lane.passed(sent, self.now)
        return True

    def _wait(self, seconds: float) -> None:
        self._timer = self._owner.call_later(max(seconds, 0.0), self._waited)

    def _waited(self) -> None:
        if self._rests > 1:
            self._rests -= 1
            self._wait(0.0)
        else:
            self._rests = 0
            self._connection.go_on()

    def stop(self) -> None:
        """Wait for no time any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Side:
    """One of the two sockets."""

    incoming: _Flow
    outgoing: _Flow

    def __init__(self, connection: RelayedConnection, reactor: Reactor, connected: Any) -> None:
        self.socket = connected
        #: Whether the kernel takes no more of what is to be sent.
        self.is_blocked = False
        self._connection = connection
        self._reactor = reactor
        self._watched = _NOTHING
        self._is_gone = False
        reactor.register(connected.fileno(), self, _NOTHING)

    def on_ready(self, mask: int) -> None:
        """The reactor's call: the socket may be ready."""
        if self._is_gone:
            return
        if mask & WRITABLE:
            self.is_blocked = False
        if self._watched & READABLE:
            if mask & ~WRITABLE:
                self.read()
        elif mask & _GONE and self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.was_reset()
        self._connection.go_on()

    def read(self) -> None:
        """Take what has come."""
        flow = self.incoming
        try:
            data = self.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.was_reset()
            return
        if data:
            flow.lane.came(data, flow.now)
        else:
            flow.lane.ended(End.ORDERLY, flow.now)

    def was_reset(self) -> None:
        """Its peer has cut the connection off. What had come before is still there."""
        if self._is_gone:
            return
        self._is_gone = True
        flow = self.incoming
        with contextlib.suppress(OSError):
            while flow.lane.wants_more and (data := self.socket.recv(_READ_SIZE)):
                flow.lane.came(data, flow.now)
        flow.lane.ended(End.RESET, flow.now)
        self.outgoing.lane.lose()
        self._reactor.unregister(self.socket.fileno())
        self._connection.side_is_gone()

    def end(self) -> None:
        """End the stream to its peer."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.was_reset()

    def watch(self) -> None:
        """Be told of what is wanted."""
        if self._is_gone:
            return
        wanted = READABLE if self.incoming.lane.wants_more else 0
        if self.is_blocked:
            wanted |= WRITABLE
        wanted = wanted or _NOTHING
        if wanted != self._watched:
            self._watched = wanted
            self._reactor.modify(self.socket.fileno(), wanted)

    def close(self, *, reset: bool) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._reactor.unregister(self.socket.fileno())
        if reset:
            reset_socket(self.socket)
        else:
            self.socket.close()
