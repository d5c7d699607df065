"""Both ends of one session, in a process of its own: bytes both ways at once, in random pieces.

    python tests/many/both_ends.py BYTES SEED

Listens, prints its port, and reads where the guard is that leads to it. Then BYTES go each way, and
it prints whether the hashes of what was sent and of what came are equal.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sys
import threading

_LARGEST = 1_048_576


def send(end: socket.socket, size: int, seed: int, digests: dict[str, str], name: str) -> None:
    """Send so many bytes in pieces of 1 B to 1 MiB, small ones as often as large ones."""
    chance = random.Random(seed)
    block = memoryview(os.urandom(2 * _LARGEST))
    digest = hashlib.sha256()
    left = size
    while left:
        piece = min(left, int(2 ** chance.uniform(0, 20)))
        at = chance.randrange(_LARGEST)
        data = block[at : at + piece]
        digest.update(data)
        end.sendall(data)
        left -= piece
    end.shutdown(socket.SHUT_WR)
    digests[name] = digest.hexdigest()


def receive(end: socket.socket, seed: int, digests: dict[str, str], name: str) -> None:
    """Receive to the end, in pieces of random sizes."""
    chance = random.Random(seed)
    buffer = bytearray(_LARGEST)
    view = memoryview(buffer)
    digest = hashlib.sha256()
    while size := end.recv_into(view[: int(2 ** chance.uniform(10, 20))]):
        digest.update(view[:size])
    digests[name] = digest.hexdigest()


def main(size: int, seed: int) -> int:
    """Whether all of it has come."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    host, _, port = sys.stdin.readline().strip().rpartition(":")
    client = socket.create_connection((host, int(port)))
    server, _ = listening.accept()
    digests: dict[str, str] = {}
    threads = [
        threading.Thread(target=send, args=(client, size, seed, digests, "sent up")),
        threading.Thread(target=send, args=(server, size, seed + 1, digests, "sent down")),
        threading.Thread(target=receive, args=(server, seed + 2, digests, "came up")),
        threading.Thread(target=receive, args=(client, seed + 3, digests, "came down")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal = (
        digests["sent up"] == digests["came up"] and digests["sent down"] == digests["came down"]
    )
    print("equal" if equal else f"different: {digests}", flush=True)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
