"""How do I answer every client at once? A first server, in GBK: whatever one says, it thanks.

Run it: python examples/thank_you.py [HOST:PORT]
"""

import sys

import tieline


def thank(connection: tieline.Connection, text: str) -> str:
    print(f"{connection.peer} says: {text}", flush=True)
    return "thank you !"


address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7788"
tieline.run(
    thank,
    address,
    encoding="gbk",
    ready=lambda server: print("listening on", server.addresses[0], flush=True),
)
