"""One server of the soak, and counts of its own by which to judge the server's."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import tieline
from tieline import CloseReason, Connection, Limits, Server


class Watch:
    """One server, and what was seen of it."""

    def __init__(self, full: str, per_client: int) -> None:
        # Each cap is within reach: networks have 10 clients, and there are 4 networks.
        self.per_network, self.total = 6 * per_client, 14 * per_client
        self.limits = Limits(
            per_client=per_client, per_network=self.per_network, total=self.total,
            client_full=full, total_full="wait", evict_idle=0.01,
            idle=0.3, first_byte=0.2, message=0.05, half_closed=0.2, closing=0.5,
            lifetime=2.0,
        )  # fmt: skip
        self.full = full
        self.opened = 0
        self.clients: Counter[str] = Counter()
        self.networks: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.complaints: Counter[str] = Counter()
        self.server: Server = tieline.serve(
            respond if full == "refuse" else converse, "127.0.0.1:0", framing=tieline.Line(),
            limits=self.limits, on_open=self.on_open, on_close=self.on_close, backlog=256,
        )  # fmt: skip

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.addresses[0].port

    def complain(self, text: str) -> None:
        """Something is wrong."""
        self.complaints[text] += 1

    def on_open(self, connection: Connection) -> None:
        """One more: is there a place for it?"""
        host = connection.peer.host
        network = host.rpartition(".")[0]
        self.opened += 1
        self.clients[host] += 1
        self.networks[network] += 1
        assert self.limits.per_client is not None
        for name, count, cap in (
            ("a client", self.clients[host], self.limits.per_client),
            ("a network", self.networks[network], self.per_network),
            ("all", self.clients.total(), self.total),
        ):
            self.most[name] = max(self.most[name], count)
            if count > cap:
                self.complain(f"{count} connections of {name}, with a cap of {cap}")
        admission = self.server.admission
        client = admission.client(connection.client.key)
        counted = 0 if client is None else client.connections
        if counted != self.clients[host]:
            self.complain(f"admission counts {counted} of a client that has {self.clients[host]}")
        if admission.total != self.clients.total():
            self.complain(f"admission counts {admission.total}, of {self.clients.total()} in all")

    def on_close(self, connection: Connection, reason: CloseReason) -> None:
        """One less."""
        host = connection.peer.host
        for counts, key in ((self.clients, host), (self.networks, host.rpartition(".")[0])):
            counts[key] -= 1
            if counts[key] == 0:
                del counts[key]

    def check_empty(self) -> None:
        """Everybody has gone: is there anything left?"""
        server, admission = self.server, self.server.admission
        counts = server.counters
        for what, left in {
            "connections open": len(server),
            "clients that this program counts": len(self.clients),
            "networks that this program counts": len(self.networks),
            "connections that admission counts": admission.total,
            "clients that admission counts": len(admission.clients),
            "clients that admission knows": admission.known,
            "connections accepted and never closed": counts.accepted - counts.closed.total(),
            "connections accepted without on_open": counts.accepted - self.opened,
            "failures of handlers": counts.handler_errors,
            "failures of accepting": counts.accept_errors,
        }.items():
            if left:
                self.complain(f"at the end, {what}: {left}")

    def check_reached(self) -> None:
        """A cap that nobody reached was not tried."""
        assert self.limits.per_client is not None
        for name, cap in {
            "a client": self.limits.per_client, "a network": self.per_network, "all": self.total,
        }.items():  # fmt: skip
            if self.most[name] < cap:
                self.complain(f"nothing is proved: {name} never had more than {self.most[name]}")
        closed = self.server.counters.closed
        if self.full == "evict" and not closed[CloseReason.EVICTED]:
            self.complain("nothing is proved: nobody was evicted")


def respond(connection: Connection, line: bytes) -> bytes | None:
    """Answer, or do as told."""
    if line == b"close":
        connection.close()
        return None
    if line == b"abort":
        connection.abort()
        return None
    return line


async def converse(connection: Connection) -> None:
    """Answer, or do as told; sometimes take a while."""
    async for line in connection:
        answer = respond(connection, line)
        if answer is None:
            return
        if random.random() < 0.05:
            await asyncio.sleep(0.01)
        await connection.send(answer)
