# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""Twisted: LineReceiver, answering with sendLine."""

from __future__ import annotations

from typing import Any, cast

from peer_tools import BACKLOG, HOST, parser, raise_descriptor_limit, say_ready
from twisted.internet import protocol
from twisted.internet import reactor as installed_reactor
from twisted.protocols.basic import LineReceiver

reactor = cast(Any, installed_reactor)


class Echo(LineReceiver):
    """Answers each line of one connection with itself."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        """Send small answers at once, as the others do."""
        cast(Any, self.transport).setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        """Answer one line."""
        self.sendLine(line)


if __name__ == "__main__":
    options = parser().parse_args()
    raise_descriptor_limit()
    factory = protocol.Factory.forProtocol(Echo)
    factory.noisy = False
    reactor.listenTCP(options.port, factory, backlog=BACKLOG, interface=HOST)
    reactor.callWhenRunning(say_ready)
    reactor.run()
