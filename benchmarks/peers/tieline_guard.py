"""tieline, the library under test, as a proxy: all limits on, as they are by default.

Only the caps are set, to what the load needs: all of it comes from one address.
"""

from __future__ import annotations

from peer_tools import BACKLOG, HOST, loop_parser, run, serve_until_told

import tieline.guard

MOST = 9500  # sessions, two descriptors each


async def serve(port: int, backend: int, limits: tieline.Limits, stalls: bool) -> None:
    """Serve until terminated."""
    guard = tieline.guard.serve(
        f"{HOST}:{port}", upstreams=[f"{HOST}:{backend}"], backlog=BACKLOG, limits=limits
    )
    async with guard:
        await serve_until_told(stalls, lambda: {"refused": guard.counters.refused.total()})


if __name__ == "__main__":
    parser = loop_parser()
    parser.add_argument("--backend", type=int, required=True)
    parser.add_argument("--per-client", type=int, default=MOST, metavar="N")
    options = parser.parse_args()
    limits = tieline.Limits(per_client=options.per_client, total=MOST)
    run(serve(options.port, options.backend, limits, options.stalls), options.loop)
