"""Exit codes, the same for every command, and which one an error means."""

from __future__ import annotations

import enum

from ..errors import (
    BindError,
    ConnectError,
    ConnectionClosedError,
    DeadlineError,
    ResolveError,
    TielineError,
    TlsError,
    UsageError,
)
from ..reasons import CloseReason

__all__ = ["Exit", "exit_of", "exit_of_reason"]


class Exit(enum.IntEnum):
    """What a command's exit code says."""

    DONE = 0
    FAILED = 1
    USAGE = 2  #: also a missing extra
    NOT_CONNECTED = 3
    TIMED_OUT = 4
    CLOSED_EARLY = 5  #: the peer closed or reset the connection before all was done
    TLS = 6
    UNEXPECTED = 7  #: an expectation was not met
    NOT_BOUND = 8
    REFUSED = 9  #: by policy
    CROSSED = 99  #: a threshold of a bench
    INTERRUPTED = 130
    TERMINATED = 143


#: The first class that fits counts, so subclasses come first.
_BY_CLASS: tuple[tuple[type[TielineError], Exit], ...] = (
    (ResolveError, Exit.NOT_CONNECTED),
    (ConnectError, Exit.NOT_CONNECTED),
    (BindError, Exit.NOT_BOUND),
    (TlsError, Exit.TLS),
    (DeadlineError, Exit.TIMED_OUT),
    (UsageError, Exit.USAGE),
)

_BY_REASON = {
    CloseReason.PEER_CLOSED: Exit.CLOSED_EARLY,
    CloseReason.PEER_RESET: Exit.CLOSED_EARLY,
    CloseReason.IDLE_TIMEOUT: Exit.TIMED_OUT,
    CloseReason.FIRST_BYTE_TIMEOUT: Exit.TIMED_OUT,
    CloseReason.MESSAGE_TIMEOUT: Exit.TIMED_OUT,
    CloseReason.CLOSE_TIMEOUT: Exit.TIMED_OUT,
    CloseReason.HANDSHAKE_TIMEOUT: Exit.TIMED_OUT,
    CloseReason.TLS_ERROR: Exit.TLS,
    CloseReason.CLIENT_LIMIT: Exit.REFUSED,
    CloseReason.NETWORK_LIMIT: Exit.REFUSED,
    CloseReason.NO_DESCRIPTORS: Exit.REFUSED,
}


def exit_of_reason(reason: CloseReason) -> Exit:
    """The exit code for a connection that ended, for this reason, before all was done."""
    return _BY_REASON.get(reason, Exit.FAILED)


def exit_of(error: BaseException) -> Exit:
    """The exit code for an error."""
    if isinstance(error, ConnectionClosedError):
        return exit_of_reason(error.reason)
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    return Exit.FAILED
