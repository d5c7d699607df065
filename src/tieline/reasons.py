"""Why a connection ended: a closed list, one word each, the same word everywhere.

The log line, the counter, the `on_close` hook and every face show a reason by its value. A
connection ends with exactly one of them; a client refused at the door never becomes a
connection, and is counted under the same words.
"""

from __future__ import annotations

import enum

__all__ = ["CloseReason"]


class CloseReason(enum.StrEnum):
    """Why a connection ended, or why a client was refused."""

    # In good order.
    PEER_CLOSED = "peer_closed"  #: the peer ended its stream first, and all was delivered
    CLOSED = "closed"  #: this side closed: `close()`, or the conversation was over
    SHUTDOWN = "shutdown"  #: the server is stopping

    # Cut off.
    ABORTED = "aborted"  #: this side called `abort()`
    PEER_RESET = "peer_reset"  #: the peer cut the connection off (RST)
    NETWORK_ERROR = "network_error"  #: the network lost it (timed out, unreachable)
    CLOSE_TIMEOUT = "close_timeout"  #: closing took longer than its limit; what was owed is lost

    # Limits.
    IDLE_TIMEOUT = "idle_timeout"  #: no byte made progress in either direction
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"  #: connected, and said nothing
    MESSAGE_TIMEOUT = "message_timeout"  #: began a message, and did not end it
    SLOW_READER = "slow_reader"  #: owed more bytes than allowed, and did not take them
    CLIENT_LIMIT = "client_limit"  #: refused: this client machine has its share
    NETWORK_LIMIT = "network_limit"  #: refused: this client's wider network has its share
    NO_DESCRIPTORS = "no_descriptors"  #: refused: this machine is out of file descriptors

    # What the peer sent.
    MESSAGE_TOO_LARGE = "message_too_large"  #: a message over the maximum
    MALFORMED = "malformed"  #: bytes that the framing cannot read
    TRUNCATED = "truncated"  #: ended inside a message or a character
    UNDECODABLE = "undecodable"  #: bytes that are not text in the charset

    # TLS.
    TLS_ERROR = "tls_error"  #: no agreement on a secure connection
    HANDSHAKE_TIMEOUT = "handshake_timeout"  #: did not finish the TLS handshake in time

    # This program.
    HANDLER_ERROR = "handler_error"  #: the application's handler raised

    @property
    def in_good_order(self) -> bool:
        """Whether nothing was lost: both sides ended as they meant to."""
        return self in _IN_GOOD_ORDER


_IN_GOOD_ORDER = frozenset({CloseReason.PEER_CLOSED, CloseReason.CLOSED, CloseReason.SHUTDOWN})
