"""Gigabytes both ways at once through one guard: every byte arrives in its place, none is kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from guard.services import size
from many.guard_proofs.programs import guard, note, private_bytes, program, until
from support.transports import Secrets

_MIB = 1_048_576
_SESSIONS = 4

#: What the guard may grow by: what is owed both ways; TLS has records under way on each leg
#: as well, however much passes.
_MOST_KEPT = {"spliced": 2 * _MIB, "copied": 2 * _MIB, "tls": 4 * _MIB}


class Watched(threading.Thread):
    """Looks at how much memory a process has, until the end of the block."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid
        self._stop_it = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._stop_it.wait(0.05):
            self.most = max(self.most, private_bytes(self._pid))

    def __enter__(self) -> Watched:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_it.set()
        self.join()


def transfer(client: Any, service: Any, port: int, bytes_each: int) -> dict[str, Any]:
    """So many bytes each way in each session. Fails unless they are the same on both sides."""
    service.begin("go", size=bytes_each)
    client.begin("go", size=bytes_each, port=port)
    told: dict[str, Any] = client.answer(900.0)
    behind = {(each["there"], each["here"]): each for each in service.answer(60.0)["sessions"]}
    assert len(behind) == len(told["sessions"]) == _SESSIONS
    for each in told["sessions"]:
        other = behind[each["here"], each["there"]]
        assert each["sent"] == other["came"], "what the client sent is not what has come"
        assert each["came"] == other["sent"], "what has come is not what the service sent"
    return told


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", ["spliced", "copied", "tls"])
def test_gigabytes_both_ways_at_once(way: str, loop: str, secrets: Secrets, tmp_path: Path) -> None:
    certificate, authority = tmp_path / "certificate.pem", tmp_path / "authority.pem"
    authority.write_bytes(secrets.authority.cert_pem.bytes())
    certificate.write_bytes(secrets.certificate.private_key_and_cert_chain_pem.bytes())
    each = size(64, 1024 if way != "tls" else 128) * _MIB
    front: dict[str, Any] = {"pipes": 0} if way == "copied" else {}
    here: dict[str, Any] = {}
    behind: dict[str, Any] = {}
    if way == "tls":
        front = {"certificate": str(certificate), "authority": str(authority)}
        here, behind = {"authority": str(authority)}, {"certificate": str(certificate)}
    with program("bulk_program", role="service", sessions=_SESSIONS, seed=1, **behind) as service:
        with program("bulk_program", role="client", sessions=_SESSIONS, seed=2, **here) as client:
            # To the service a check would be one of its sessions.
            settings = {"check_interval": None}
            with guard(f"127.0.0.1:{service.port}", loop=loop, settings=settings, **front) as it:
                # The ways that it takes first cost memory that they cost once.
                transfer(client, service, it.port, 8 * _MIB)
                until(lambda: it.order("facts")["sides"] == 0)
                before = it.order("facts", collect=True)
                with Watched(it.pid) as watched:
                    told = transfer(client, service, it.port, each)
                grown = watched.most - before["memory"]
                until(lambda: it.order("facts")["sides"] == 0)
                after = it.order("facts", collect=True)
    passed = after["bytes_received"] - before["bytes_received"]
    assert passed == after["bytes_sent"] - before["bytes_sent"] == each * _SESSIONS
    assert (after["pipes"] > 0) == (way == "spliced")
    # In good order, whichever side was done first.
    assert set(after["closed"]) <= {"peer_closed", "upstream_closed"}
    assert sum(after["closed"].values()) == 2 * _SESSIONS
    cpu = after["cpu"] - before["cpu"]
    gigabytes = 2 * passed / 1e9
    note(
        f"bulk, {way}, {loop}: {passed / 2**30:.2f} GiB each way at once in {_SESSIONS} sessions, "
        f"SHA-256 equal; {told['took']:.1f} s, {gigabytes / cpu:.2f} GB a CPU second of the guard; "
        f"at most {grown / 1024:,.0f} KiB more than before"
    )
    assert grown < _MOST_KEPT[way]
