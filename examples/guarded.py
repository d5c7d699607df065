"""Who holds my connections, and why do they end? Limits, and a log line for every ending.

Run it: python examples/guarded.py [HOST:PORT]
"""

import sys

import tieline
from tieline import Address, CloseReason, Connection, Limits, Line, Server


def echo(connection: Connection, text: str) -> str:
    return text


def on_close(connection: Connection, reason: CloseReason) -> None:
    print(
        f"{connection.peer.host} {reason} after {connection.age:.0f} s, "
        f"{connection.messages_received} messages",
        flush=True,
    )


def on_refuse(client: Address, reason: CloseReason) -> None:
    print(f"{client.host} refused: {reason}", flush=True)


def ready(server: Server) -> None:
    print("listening on", server.addresses[0], flush=True)


address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7788"
tieline.run(
    echo,
    address,
    framing=Line(),
    encoding="auto",
    limits=Limits(idle=60, first_byte=10, message=10, per_client=2, total=1000),
    on_close=on_close,
    on_refuse=on_refuse,
    ready=ready,
)
