"""How do I talk to devices in binary? A gateway: a 2-byte length, a device's number, a reading.

    python examples/device_gateway.py [HOST:PORT]

Each message is answered with the number and a zero. A device is known by its number, not by its
address, and when it comes back its old connection, which may be half dead, is cut off.
"""

import struct
import sys

import tieline
from tieline import CloseReason, Connection, LengthPrefix, Limits

READING = struct.Struct(">If")  # number, degrees
devices: dict[int, Connection] = {}


def on_reading(connection: Connection, message: bytes) -> bytes:
    number, degrees = READING.unpack(message)  # a wrong size ends this connection only
    old, devices[number] = devices.get(number), connection
    if old is not None and old is not connection:
        old.abort()
    connection.data = number
    print(f"device {number}: {degrees:.1f} °C", flush=True)
    return struct.pack(">IB", number, 0)


def on_close(connection: Connection, reason: CloseReason) -> None:
    if connection.data is not None and devices.get(connection.data) is connection:
        del devices[connection.data]
        print(f"device {connection.data} gone: {reason}", flush=True)


address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7788"
tieline.run(
    on_reading,
    address,
    framing=LengthPrefix(2),
    limits=Limits(idle=120, max_message=256, per_client=1000),  # many behind one router
    on_close=on_close,
    ready=lambda server: print("listening on", server.addresses[0], flush=True),
)
