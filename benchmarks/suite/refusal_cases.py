"""The experiment E7: one client has its share, and goes on connecting at full speed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from .cases import WIDTH, Plan, window_metrics
from .machine import listen_drops
from .measure import Fleet, Metrics, Row, error_row, say
from .peers import BACKEND, CAPPED, PROXIES, Peer
from .processes import RunError, Server, generate, holding, running

E7 = "E7"

_CAP = 10
REFUSED = f"a client that holds its {_CAP} connections wants more, {WIDTH} at once"

_ANOTHER_CLIENT = "127.0.0.2"
_TRIES = 100  # refusals that nginx is made to log, once, to be counted
_SECONDS = 60.0
_PATIENCE = 5.0


def refusals(plan: Plan, peers: Sequence[Peer]) -> list[Row]:
    """E7: refused connections. Responders only: a refused client never meets a handler."""
    entrants = [
        peer
        for peer in peers
        if peer.name in {*CAPPED, *_IN_FRONT} or peer.name.startswith("tieline_responder")
    ]
    return refusals_by(entrants, E7, plan)


def refusals_by(entrants: Sequence[Peer], experiment: str, plan: Plan) -> list[Row]:
    """Rows of servers and proxies that hold each client to the same cap."""
    with running(BACKEND) as backend:
        capped = [_with_cap(peer, backend.port) for peer in entrants]
        unfit = _unfit(capped)
        with Fleet([peer for peer in capped if peer.name not in unfit]) as fleet:
            rows = fleet.measure(experiment, REFUSED, plan.rounds, partial(_refused_window, plan))
    return rows + [
        error_row(experiment, REFUSED, peer, unfit[peer.name])
        for peer in capped
        if peer.name in unfit
    ]


def _with_cap(peer: Peer, backend: int) -> Peer:
    capped = peer.with_options("--per-client", str(_CAP))
    if peer.name in PROXIES:
        capped = capped.in_front_of(backend)
    rule = _IN_FRONT.get(peer.name)
    return replace(capped, title=f"{peer.title}, {rule}") if rule else capped


#: Proxies that are no part of tieline, and by which rule they refuse.
_IN_FRONT = {"haproxy": "connection reject", "nginx": "limit_conn"}


def _refused_window(plan: Plan, server: Server) -> Metrics:
    """One window of refusals, each of which the server must account for itself.

    The client holds its share and is served; another client is served before and after.
    """
    count = _COUNTS.get(server.peer.name, _ask)
    with holding(server, _CAP, _SECONDS) as holder:
        _exchange_from_elsewhere(server)
        before, dropped = count(server), listen_drops()
        result = generate(
            "refuse", server, _SECONDS, width=WIDTH, ramp=plan.ramp, seconds=plan.seconds
        )
        after, dropped = count(server), listen_drops() - dropped
        _exchange_from_elsewhere(server)
        if holder.release()["closed"] != 0:
            raise RunError("the server closed connections that the client may hold")
    seen = result["resets"] + result["ends"]
    if before is not None and after is not None and after - before != seen:
        raise RunError(f"{seen} connections were ended, {after - before} refused by the rule")
    return {
        **window_metrics(result),
        "reset_percent": result["resets"] / seen * 100,
        "listen_drops": dropped,
    }


def _exchange_from_elsewhere(server: Server) -> None:
    """See that another client is served: it is a rule for each client that is at work."""
    line = b"from elsewhere\n"
    try:
        with socket.socket() as client:
            client.settimeout(_PATIENCE)
            client.bind((_ANOTHER_CLIENT, 0))
            client.connect(("127.0.0.1", server.port))
            client.sendall(line)
            answer = b""
            while len(answer) < len(line) and (more := client.recv(100)):
                answer += more
    except OSError as error:
        raise RunError(f"another client was not served: {error}") from error
    if answer != line:
        raise RunError("another client was not served")


# ---- What the servers themselves have counted


def _ask(server: Server) -> int:
    """Our own servers say it when told to."""
    refused: int = server.ask()["refused"]
    return refused


def _ask_haproxy(server: Server) -> int:
    """HAProxy's `dcon`: connections denied by a "tcp-request connection" rule."""
    name = f"\0tieline-benchmark-{server.port}".ljust(108, "\0")  # as HAProxy pads its abns@ names
    with socket.socket(socket.AF_UNIX) as statistics:
        statistics.settimeout(_PATIENCE)
        statistics.connect(name)
        statistics.sendall(b"show stat\n")
        text = b""
        while more := statistics.recv(65536):
            text += more
    heads, *lines = text.decode("ascii").removeprefix("# ").splitlines()
    for line in lines:
        values = dict(zip(heads.split(","), line.split(","), strict=False))
        if (values.get("pxname"), values.get("svname")) == ("guard", "FRONTEND"):
            return int(values["dcon"])
    raise RunError("HAProxy shows no statistics of its frontend")


_COUNTS: dict[str, Callable[[Server], int | None]] = {
    "haproxy": _ask_haproxy,
    # It counts nothing that can be asked for; `_unfit` has it log a few.
    "nginx": lambda server: None,
}


def _unfit(capped: Sequence[Peer]) -> dict[str, str]:
    """Why nginx does not refuse by its rule, if it does not: as many refusals, so many lines."""
    for peer in capped:
        if peer.name == "nginx" and not peer.why_not():
            try:
                _have_nginx_count(peer)
            except RunError as error:
                say(f"  {peer.name}: {error}")
                return {peer.name: str(error)}
    return {}


def _have_nginx_count(peer: Peer) -> None:
    with running(peer.with_options("--log-refusals")) as server:
        with holding(server, _CAP, _SECONDS):
            for _ in range(_TRIES):
                _be_refused(server)
        logged = server.printed().count(b"limiting connections by zone")
    if logged != _TRIES:
        raise RunError(f"nginx refused {logged} of {_TRIES} connections by its rule")


def _be_refused(server: Server) -> None:
    with socket.socket() as client:
        client.settimeout(_PATIENCE)
        try:
            client.connect(("127.0.0.1", server.port))
            said = client.recv(1)
        except ConnectionResetError:
            return
        except OSError as error:
            raise RunError(f"a client over its cap was not refused: {error}") from error
    if said:
        raise RunError("a client over its cap was served")
