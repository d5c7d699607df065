"""How do I talk to a server without asyncio? One long connection, one line at a time, in GBK.

Run it: python examples/blocking_client.py HOST:PORT MESSAGE...
"""

import sys

import tieline
from tieline import Line, blocking

address, *messages = sys.argv[1:]
try:
    with blocking.connect(address, framing=Line(), encoding="gbk", timeout=5) as connection:
        for message in messages:
            connection.send(message)
            print(connection.receive())
        connection.half_close()  # no more from us; the rest of what the server has to say:
        for text in connection:
            print(text)
except tieline.TielineError as error:
    sys.exit(f"{error}{f' ({error.hint})' if error.hint else ''}")
