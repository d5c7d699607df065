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
    UPSTREAM_CLOSED = "upstream_closed"  #: the upstream ended its stream first; all was delivered

    # Cut off.
    ABORTED = "aborted"  #: this side called `abort()`
    PEER_RESET = "peer_reset"  #: the peer cut the connection off (RST)
    NETWORK_ERROR = "network_error"  #: the network lost it (timed out, unreachable)
    CLOSE_TIMEOUT = "close_timeout"  #: closing took longer than its limit; what was owed is lost
    DRAIN_TIMEOUT = "drain_timeout"  #: still busy when the server had to stop

    # Its clocks.
    IDLE_TIMEOUT = "idle_timeout"  #: no byte made progress in either direction
    RECEIVE_IDLE_TIMEOUT = "receive_idle_timeout"  #: no byte came from the peer
    SEND_IDLE_TIMEOUT = "send_idle_timeout"  #: no byte went to the peer
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"  #: connected, and said nothing
    MESSAGE_TIMEOUT = "message_timeout"  #: began a message, and did not end it
    WRITE_STALL = "write_stall"  #: was owed bytes, and took none
    HALF_CLOSED_TIMEOUT = "half_closed_timeout"  #: one side had ended, and nothing moved any more
    LIFETIME = "lifetime"  #: was open for as long as any connection may be
    SLOW_SENDER = "slow_sender"  #: sent a message more slowly than allowed
    SLOW_READER = "slow_reader"  #: took what it was owed too slowly, or was owed too much

    # Refused at the door.
    CLIENT_LIMIT = "client_limit"  #: refused: this client machine has its share
    NETWORK_LIMIT = "network_limit"  #: refused: this client's wider network has its share
    TOTAL_LIMIT = "total_limit"  #: refused: the places left are reserved for others
    CLIENT_RATE = "client_rate"  #: refused: this client machine connects too often
    PENALIZED = "penalized"  #: refused: this client machine has misbehaved
    BANNED = "banned"  #: refused or closed: this client is banned
    TABLE_FULL = "table_full"  #: refused: more clients than can be told apart
    NO_DESCRIPTORS = "no_descriptors"  #: refused: this machine is out of file descriptors or memory

    # By decision.
    EVICTED = "evicted"  #: made room for another
    KICKED = "kicked"  #: the operator closed it

    # What the peer sent.
    MESSAGE_TOO_LARGE = "message_too_large"  #: a message over the maximum
    MALFORMED = "malformed"  #: bytes that the framing cannot read
    TRUNCATED = "truncated"  #: ended inside a message or a character
    UNDECODABLE = "undecodable"  #: bytes that are not text in the charset

    # TLS.
    TLS_ERROR = "tls_error"  #: no agreement on a secure connection
    HANDSHAKE_TIMEOUT = "handshake_timeout"  #: did not finish the TLS handshake in time

    # A guard, on the way to its upstream.
    NO_UPSTREAM = "no_upstream"  #: no upstream is up, or none of those tried answered
    QUEUE_FULL = "queue_full"  #: every upstream has its share, and too many wait for a place
    QUEUE_TIMEOUT = "queue_timeout"  #: waited for a place at an upstream for as long as allowed
    UPSTREAM_RESET = "upstream_reset"  #: the upstream cut the session off (RST)
    UPSTREAM_LOST = "upstream_lost"  #: the network lost the upstream (timed out, unreachable)
    UPSTREAM_STALLED = "upstream_stalled"  #: the upstream was owed bytes, and took none
    UPSTREAM_TLS = "upstream_tls"  #: no agreement with the upstream on a secure connection
    UNTRUSTED_SOURCE = "untrusted_source"  #: refused: only stated sources may come in here
    BAD_PREAMBLE = "bad_preamble"  #: what came first is no PROXY header, or no TLS greeting
    PREAMBLE_TIMEOUT = "preamble_timeout"  #: it did not come in time
    UNKNOWN_NAME = "unknown_name"  #: asked for a name (SNI) that no upstream has

    # This program.
    HANDLER_ERROR = "handler_error"  #: the application's handler raised

    @property
    def in_good_order(self) -> bool:
        """Whether nothing was lost: both sides ended as they meant to."""
        return self in _IN_GOOD_ORDER


_IN_GOOD_ORDER = frozenset({
    CloseReason.PEER_CLOSED, CloseReason.CLOSED, CloseReason.SHUTDOWN,
    CloseReason.UPSTREAM_CLOSED,
})  # fmt: skip
