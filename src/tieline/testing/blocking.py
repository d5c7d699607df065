"""The relay for tests without asyncio: it runs on a thread of its own.

::

    with tieline.testing.blocking.FaultRelay("127.0.0.1:7788") as relay:
        relay.add(Reset(after=100), direction="down")
        ...
        relay.assert_happened("reset")
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self, TypeVar

from ..address import Address
from . import relay
from .faults import Fault
from .relayed import RelayedConnection

__all__ = ["FaultRelay"]

AnyFault = TypeVar("AnyFault", bound=Fault)
Result = TypeVar("Result")


class FaultRelay:
    """`tieline.testing.FaultRelay` as a plain context; any thread may call its methods. What each
    of them means is told there.

    Args:
        upstream, listen, seed, backlog, max_held: as there.

    Raises:
        AddressError, SettingError: the arguments make no sense.
    """

    def __init__(
        self,
        upstream: str | Address,
        *,
        listen: str | Address = "127.0.0.1:0",
        seed: int = 0,
        backlog: int = 128,
        max_held: int = 1_048_576,
    ) -> None:
        self._relay = relay.FaultRelay(
            upstream, listen=listen, seed=seed, backlog=backlog, max_held=max_held
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # ---- From opening to closing

    def open(self) -> None:
        """Begin to listen.

        Raises:
            BindError: the address cannot be had.
            ResolveError: its name has no address.
        """
        if self._thread is not None:
            return
        self._loop = asyncio.new_event_loop()
        # A daemon: a test that was interrupted must not keep the program from ending.
        self._thread = threading.Thread(
            target=_run_until_stopped,
            args=(self._loop,),
            name="tieline-fault-relay",
            daemon=True,
        )
        self._thread.start()
        try:
            self._run(self._relay.open())
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """End everything. Idempotent."""
        if self._thread is not None:
            try:
                self._run(self._relay.close())
            finally:
                self._stop()

    def _stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _call(self, function: Callable[[], Result]) -> Result:
        """Have the relay's thread do it; before it is open and afterwards, do it here."""
        if self._loop is None:
            return function()

        async def work() -> Result:
            return function()

        return self._run(work())

    # ---- The same

    @property
    def upstream(self) -> Address:
        """Where new connections go on to."""
        return self._relay.upstream

    @upstream.setter
    def upstream(self, upstream: Address) -> None:
        self._relay.upstream = upstream

    @property
    def address(self) -> Address:
        """Where clients connect to; known once it is open."""
        return self._relay.address

    @property
    def failures(self) -> list[BaseException]:
        """Why the upstream could not be connected to, for each client that was reset for it."""
        return self._relay.failures

    @property
    def connections(self) -> list[RelayedConnection]:
        """Those that are open: to be read. To cut one off, `reset` it here."""
        return self._call(lambda: self._relay.connections)

    def add(self, fault: AnyFault, direction: Literal["up", "down", "both"] = "both") -> AnyFault:
        """Have something go wrong, from now on.

        Raises:
            SettingError: there is no such direction.
        """
        return self._call(lambda: self._relay.add(fault, direction))

    def remove(self, fault: Fault) -> None:
        """Have it go wrong no more. Idempotent."""
        self._call(lambda: self._relay.remove(fault))

    def remove_all(self) -> None:
        """Remove all faults."""
        self._call(self._relay.remove_all)

    @property
    def faults(self) -> list[Fault]:
        """Those that are set."""
        return self._call(lambda: self._relay.faults)

    def reset(self, connection: RelayedConnection) -> None:
        """Cut one connection off now (RST on both sides). Idempotent."""
        self._call(connection.reset)

    def reset_all(self) -> int:
        """Cut off every open connection now (RST on both sides). Returns how many."""
        return self._call(self._relay.reset_all)

    @property
    def happened(self) -> Counter[str]:
        """How often each kind of fault has really had an effect, by its name."""
        return self._call(lambda: self._relay.happened)

    def assert_happened(self, what: Fault | str, times: int = 1, *, within: float = 0.0) -> None:
        """Assert that a fault has really happened, so that a test cannot pass without it.

        Args:
            what: a fault that was added, or the name of a kind.
            times: how often at least (default 1).
            within: seconds to wait for it (default 0).

        Raises:
            AssertionError: it has not.
            SettingError: no kind of fault has this name.
        """
        if within > 0 and self._loop is not None:
            self._run(self._wait(what, times, within))
        self._call(lambda: self._relay.assert_happened(what, times))

    async def _wait(self, what: Fault | str, times: int, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._relay.wait_happened(what, times)
        except TimeoutError:
            pass  # which the assertion tells better

    def accept_newcomers(self) -> None:
        """Take new connections, as from the beginning."""
        self._call(self._relay.accept_newcomers)

    def ignore_newcomers(self) -> None:
        """Take no new connections: they wait in the kernel, connected and never answered."""
        self._call(self._relay.ignore_newcomers)

    def refuse_newcomers(self) -> None:
        """Stop listening: new connections are refused (RST). The port stays the relay's."""
        self._call(self._relay.refuse_newcomers)


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
