"""What can be asked for: every verb of the control socket."""

from __future__ import annotations

from ..reasons import CloseReason
from ..states import State
from .arguments import Argument
from .changing import ban, drain, kick, limits, unban
from .columns import CLIENT_COLUMNS, CONNECTION_COLUMNS
from .guarding import (
    settings,
    upstream_add,
    upstream_drain,
    upstream_enable,
    upstream_remove,
    upstreams,
)
from .looking import Given, bans, clients, connection, connections, find, info, metrics
from .results import HelpResult, TapResult, WatchResult
from .session import Session, Verb
from .tapping import Tapping
from .watching import EVENT_NAMES, Watching

__all__ = ["VERBS"]


async def _help(session: Session, given: Given) -> HelpResult:
    return {
        "verbs": [
            {
                "verb": verb.name, "help": verb.help, "stream": verb.stream,
                "guard": verb.guard,
                "arguments": [argument.describe() for argument in verb.arguments],
            }
            for verb in session.operations.verbs.values()
        ]
    }  # fmt: skip


# ---- Streams


async def _watch(session: Session, given: Given) -> WatchResult:
    outlet = session.open_outlet()
    names, statistics = given["events"], session.operations.statistics
    wanted = None if names is None else frozenset(names)
    watching = Watching(session.server, outlet, wanted)
    if given["stats"]:
        statistics.add(outlet)

    def end() -> None:
        watching.end()
        statistics.remove(outlet)

    session.begin(outlet, end)
    return {"events": sorted(EVENT_NAMES if wanted is None else wanted), "stats": given["stats"]}


async def _tap(session: Session, given: Given) -> TapResult:
    connection = find(session, given["id"])
    outlet = session.open_outlet()
    tapping = Tapping(session.server, connection, outlet, given["most"], session.by)
    session.begin(outlet, tapping.end)
    return {"id": connection.id, "peer": str(connection.peer)}


async def _stop(session: Session, given: Given) -> dict[str, int]:
    return {"lost": await session.stop(given["id"])}


# ---- The table

_PAGE = (
    Argument(
        name="descending", kind="flag", default=False, help="the largest first"
    ),
    Argument(
        name="limit", kind="whole", default=50, least=1, most=1000, help="rows of a page"
    ),
    Argument(name="after", kind="place", help="go on behind the page whose next this was"),
)  # fmt: skip

_ID = Argument(name="id", kind="whole", required=True, help="the connection's number", least=1)
_NETWORK = Argument(
    name="network", kind="text", required=True,
    help="an address, a network such as 10.0.0.0/8, uid:1000, or a client's key",
)  # fmt: skip
_UPSTREAM = Argument(name="name", kind="text", required=True, help="the upstream's name")

_TABLE = (
    Verb("info", "the server: what it is, since when, and what it has counted", info),
    Verb(
        "connections", "the open connections, page by page", connections,
        (
            Argument(name="client", kind="text", help="of this client: its key or address"),
            Argument(
                name="peer", kind="text",
                help="from this address or network (10.0.0.0/8), or from this HOST:PORT",
            ),
            Argument(
                name="upstream", kind="texts",
                help="which a guard relays to this upstream, or one of these",
            ),
            Argument(
                name="state", kind="texts", help="in one of these states",
                choices=tuple(state.value for state in State if state is not State.CLOSED),
            ),
            Argument(
                name="clock", kind="texts", help="whose next clock stands for one of these",
                choices=tuple(reason.value for reason in CloseReason),
            ),
            Argument(name="min_age", kind="number", unit="seconds", least=0, help="this old"),
            Argument(
                name="min_idle", kind="number", unit="seconds", least=0,
                help="on which no byte moved for this long",
            ),
            Argument(
                name="min_owed", kind="whole", unit="bytes", least=0, help="owed so much"
            ),
            Argument(
                name="sort", kind="text", default="id", choices=tuple(CONNECTION_COLUMNS),
                help="the column to sort by",
            ),
            *_PAGE,
        ),
    ),
    Verb("connection", "all there is to know of one connection", connection, (_ID,)),
    Verb(
        "clients", "the client machines that hold connections, page by page", clients,
        (
            Argument(
                name="min_connections", kind="whole", least=1, help="that hold so many"
            ),
            Argument(
                name="sort", kind="text", default="connections", choices=tuple(CLIENT_COLUMNS),
                help="the column to sort by",
            ),
            Argument(name="descending", kind="flag", default=True, help="the largest first"),
            *_PAGE[1:],
        ),
    ),
    Verb(
        "kick", "reset connections, given by number or by client", kick,
        (
            Argument(name="id", kind="wholes", help="the numbers", least=1),
            Argument(name="client", kind="text", help="the client's key or address"),
        ),
        changes=True,
    ),
    Verb(
        "ban", "refuse a client or network, and close what it holds", ban,
        (
            _NETWORK,
            Argument(
                name="seconds", kind="number", unit="seconds", least=0,
                help="for how long; without it, until it is lifted",
            ),
            Argument(name="why", kind="text", default="", help="for whoever asks"),
        ),
        changes=True,
    ),
    Verb(
        "unban", "lift a ban, and forgive what a client owes in penalties", unban, (_NETWORK,),
        changes=True,
    ),
    Verb(
        "bans", "who is banned, and who owes penalties", bans,
        (
            Argument(
                name="limit", kind="whole", default=1000, least=1, most=1000, help="of each"
            ),
        ),
    ),
    Verb(
        "limits", "every limit; with changes, all of them are made, or none", limits,
        (
            Argument(name="changes", kind="object", help="new values by name"),
            Argument(
                name="evict", kind="flag", default=False,
                help="close connections down to lowered caps",
            ),
        ),
    ),
    Verb("upstreams", "a guard's upstreams", upstreams, guard=True),
    Verb(
        "upstream_add", "give a guard one upstream more", upstream_add,
        (
            Argument(
                name="upstream", kind="text", required=True,
                help="HOST:PORT or unix:PATH, then options: name=, weight=, max=, backup, sni=",
            ),
        ),
        changes=True, guard=True,
    ),
    Verb(
        "upstream_drain", "no new sessions for an upstream; those it has go on", upstream_drain,
        (_UPSTREAM,),
        changes=True, guard=True,
    ),
    Verb(
        "upstream_enable", "undo the draining of an upstream", upstream_enable, (_UPSTREAM,),
        changes=True, guard=True,
    ),
    Verb(
        "upstream_remove", "take an upstream away; sessions that it has go on", upstream_remove,
        (_UPSTREAM,),
        changes=True, guard=True,
    ),
    Verb(
        "settings", "how a guard relays; with changes, all of them are made, or none", settings,
        (Argument(name="changes", kind="object", help="new values by name"),),
        guard=True,
    ),
    Verb(
        "drain", "no newcomers; connections finish. Answers when they have", drain,
        (
            Argument(
                name="seconds", kind="number", unit="seconds", default=10.0, least=0,
                help="how long they have",
            ),
            Argument(
                name="spread", kind="number", unit="seconds", default=0.0, least=0,
                help="over how long they are told",
            ),
        ),
        slow=True, changes=True,
    ),
    Verb(
        "watch", "events as they happen, and once a second how much", _watch,
        (
            Argument(
                name="events", kind="texts", choices=EVENT_NAMES,
                help="these only; an empty list: none",
            ),
            Argument(name="stats", kind="flag", default=True, help="statistics once a second"),
        ),
        stream=True,
    ),
    Verb(
        "tap", "the messages of one connection as they pass", _tap,
        (_ID, Argument(name="most", kind="whole", least=1, help="end after so many")),
        stream=True, changes=True,
    ),
    Verb(
        "stop", "end a stream", _stop,
        (
            Argument(
                name="id", kind="name", required=True, help="of the request that began it"
            ),
        ),
    ),
    Verb("metrics", "everything as Prometheus reads it", metrics),
    Verb("help", "the verbs and their arguments", _help),
)  # fmt: skip

#: Every verb by its name.
VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}
