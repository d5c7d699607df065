"""How do I send to all clients? A chat room: the first line is a name, the rest goes to everybody.

Run it: python examples/chat_room.py [HOST:PORT]
"""

import contextlib
import sys

import tieline
from tieline import Connection, Limits, Line

members: set[Connection] = set()


def tell_all(text: str) -> None:
    for member in members:
        # Not awaited: nobody waits for the slowest. A member that takes nothing is reset at
        # `max_owed`, so the memory it costs is bounded.
        with contextlib.suppress(tieline.ConnectionClosedError):  # it is just leaving
            member.send(text)


async def talk(connection: Connection) -> None:
    await connection.send("your name?")
    name = await connection.receive()
    members.add(connection)
    try:
        tell_all(f"{name} has come")
        async for text in connection:
            tell_all(f"{name}: {text}")
    finally:
        members.discard(connection)
        tell_all(f"{name} has left")


address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7788"
tieline.run(
    talk,
    address,
    framing=Line(),
    encoding="auto",
    limits=Limits(idle=600, max_message=1024, max_owed=262_144),
    ready=lambda server: print("listening on", server.addresses[0], flush=True),
)
