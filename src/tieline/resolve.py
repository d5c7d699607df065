"""From a name to an open socket: Happy Eyeballs (RFC 8305).

Addresses of both families are tried in turn, each a quarter of a second after the one before
or as soon as that has failed; the first that answers is taken and the others are dropped.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterable
from typing import Any

from .address import Address
from .errors import ConnectError, NetworkError, ResolveError, TielineError, translate_os_error

__all__ = [
    "ATTEMPT_DELAY",
    "UNIX_RETRY",
    "Candidate",
    "all_failed",
    "interleave",
    "lookup_name",
    "not_resolved",
    "open_connection",
]

#: Seconds before the next address is tried beside one that has not answered (RFC 8305, 5).
ATTEMPT_DELAY = 0.25

#: Seconds between attempts at a Unix socket whose backlog is full: the kernel refuses at once,
#: and has no event for there being room again.
UNIX_RETRY = 0.01

#: A family, and an address of it in the form that `connect` takes.
Candidate = tuple[int, Any]


def lookup_name(address: Address) -> str:
    """What to ask the resolver for. No host is this machine; a scope goes with its host."""
    host = address.host or "localhost"
    return f"{host}%{address.scope}" if address.scope and "%" not in host else host


def not_resolved(error: OSError | UnicodeError, address: Address) -> TielineError:
    """The error for a name that the resolver has no address for, or cannot even write."""
    if isinstance(error, OSError):
        return translate_os_error(error, "resolve", address.host)
    # IDNA: an empty label (`a..b`), or one of more than 63 bytes.
    return ResolveError(
        "{address!r} is not the name of a host",
        hint="check the spelling of the name",
        address=address.host,
    )


def interleave(found: Iterable[tuple[Any, ...]]) -> list[Candidate]:
    """Order what `getaddrinfo` found: its first family first, then the families in turn.

    A name listed twice is tried once.
    """
    by_family: dict[int, list[Candidate]] = {}
    for family, _, _, _, name in found:
        candidates = by_family.setdefault(family, [])
        if (family, name) not in candidates:
            candidates.append((family, name))
    ordered: list[Candidate] = []
    queues = list(by_family.values())
    while any(queues):
        ordered.extend(queue.pop(0) for queue in queues if queue)
    return ordered


def all_failed(address: Address, failures: list[tuple[Candidate, OSError]]) -> NetworkError:
    """The error for an address of which no candidate answered: the last failure, with all of
    them in its `attempts`."""
    (_, last) = failures[-1]
    error = translate_os_error(last, "connect", address)
    assert isinstance(error, NetworkError)
    error.fields["attempts"] = [
        (str(Address.from_socket_name(family, name)), failure.strerror or str(failure))
        for (family, name), failure in failures
    ]
    error.__cause__ = last
    return error


async def open_connection(address: Address) -> socket.socket:
    """Connect to an address. The caller sets the time limit, and owns the socket.

    Raises:
        ResolveError: the name has no address.
        ConnectError: none of its addresses answered; `attempts` says what each of them did.
    """
    loop = asyncio.get_running_loop()
    if address.is_unix:
        candidates: list[Candidate] = [(socket.AF_UNIX, address.path)]
    else:
        try:
            found = await loop.getaddrinfo(
                lookup_name(address), address.port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise not_resolved(error, address) from error
        candidates = interleave(found)
    if not candidates:
        raise ConnectError(address=str(address))
    if len(candidates) == 1:
        try:
            return await _attempt(loop, candidates[0])
        except OSError as error:
            raise all_failed(address, [(candidates[0], error)]) from error
    return await _race(loop, address, candidates)


async def _race(
    loop: asyncio.AbstractEventLoop, address: Address, candidates: list[Candidate]
) -> socket.socket:
    waiting = list(candidates)
    attempts: dict[asyncio.Task[socket.socket], Candidate] = {}
    failures: list[tuple[Candidate, OSError]] = []
    winner: socket.socket | None = None
    try:
        try:
            while winner is None and (waiting or attempts):
                if waiting:
                    candidate = waiting.pop(0)
                    attempts[loop.create_task(_attempt(loop, candidate))] = candidate
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=ATTEMPT_DELAY if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    candidate = attempts.pop(task)
                    error = task.exception()
                    if error is None and winner is None:
                        winner = task.result()
                    elif error is None:
                        task.result().close()
                    elif isinstance(error, OSError):
                        failures.append((candidate, error))
                    else:
                        raise error
        finally:
            await _drop(attempts)
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise all_failed(address, failures)
    return winner


async def _drop(attempts: Collection[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that lost, and close what they may have opened meanwhile."""
    for task in attempts:
        # Not by awaiting each: a cancellation of this task could not be told from theirs.
        task.add_done_callback(_close_opened)
        task.cancel()
    if attempts:
        await asyncio.wait(attempts)


def _close_opened(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _attempt(loop: asyncio.AbstractEventLoop, candidate: Candidate) -> socket.socket:
    family, name = candidate
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        if family == socket.AF_UNIX:
            await _connect_unix(connecting, name)
        else:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connecting, name)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _connect_unix(connecting: socket.socket, path: str) -> None:
    # Not the loop's `sock_connect`: it waits for the socket to be writable, which an unconnected
    # Unix socket always is, and takes a full backlog for a connection.
    while True:
        try:
            connecting.connect(path)
        except BlockingIOError:
            await asyncio.sleep(UNIX_RETRY)
        else:
            return
