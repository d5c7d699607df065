"""Every test runs under the same watch: nothing may be left behind, nothing may go unheard.

Tests that are coroutine functions run on asyncio's loop and again on uvloop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import resource
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from support.leaks import ErrorLog
from support.transports import Place, Secrets
from tieline.testing import no_leaks

_HERE = Path(__file__).parent

#: Longest that a coroutine test may take, so that a failure is not a hang.
_PATIENCE = 30.0

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_loop: a coroutine test that needs one loop only")
    config.addinivalue_line("markers", "patience(seconds): how long a coroutine test may take")
    # The shell's soft limit is often 1,024, and some tests hold thousands of connections.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """tests/many takes a minute and most of the machine: only for those who ask for it."""
    many = _HERE / "many"
    if collection_path != many:
        return None
    asked = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    return None if any(path.resolve().is_relative_to(many) for path in asked) else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        one = metafunc.definition.get_closest_marker("one_loop")
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", ["asyncio"] if one else list(_LOOPS))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test, and see that its loop is left as it was found."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = pyfuncitem.funcargs
    arguments = {name: given[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    patient = pyfuncitem.get_closest_marker("patience")
    patience: float = patient.args[0] if patient else _PATIENCE
    make_loop = _LOOPS[str(pyfuncitem.callspec.params["loop_kind"])]
    unheard: list[dict[str, Any]] = []

    async def watched() -> None:
        # Of descriptors, `nothing_left_behind`: uvloop keeps one of a child process.
        async with no_leaks(descriptors=False), asyncio.timeout(patience):
            await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unheard.append(context))
        runner.run(watched())
    assert not unheard, f"the loop was told of what nobody caught: {unheard}"
    return True


@pytest.fixture(scope="session", autouse=True)
def warm_loops() -> None:
    """uvloop opens a pipe with its first loop, and keeps it as long as the process lives."""
    for make_loop in _LOOPS.values():
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every descriptor that a test opens, it closes."""
    with no_leaks():
        yield


@pytest.fixture(autouse=True)
def error_log() -> Iterator[ErrorLog]:
    """What tieline logs as errors; a test fails on those that it did not take."""
    log = ErrorLog()
    logger = logging.getLogger("tieline")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)
    assert not log.take(), "tieline logged errors that the test did not expect"


@pytest.fixture(scope="session")
def secrets() -> Secrets:
    """Both sides' TLS contexts: a certificate for this machine, and the trust in it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Secrets(server, client, authority, certificate)


@pytest.fixture(params=["tcp4", "tcp6", "tls", "unix"])
def place(request: pytest.FixtureRequest, secrets: Secrets, tmp_path: Path) -> Place:
    """Somewhere to listen, over each transport in turn."""
    return Place.of(request.param, secrets, tmp_path)


@pytest.fixture(params=["tcp4", "tls"])
def tcp_place(request: pytest.FixtureRequest, secrets: Secrets, tmp_path: Path) -> Place:
    """The same where only TCP makes sense, without the twin."""
    return Place.of(request.param, secrets, tmp_path)


@pytest.fixture
def tls_place(secrets: Secrets, tmp_path: Path) -> Place:
    """TLS over IPv4: for what is about TLS."""
    return Place.of("tls", secrets, tmp_path)


@pytest.fixture
def unix_place(secrets: Secrets, tmp_path: Path) -> Place:
    """A Unix socket: for what is about those."""
    return Place.of("unix", secrets, tmp_path)


@pytest.fixture
def plain(secrets: Secrets, tmp_path: Path) -> Place:
    """Plain TCP over IPv4: for what does not depend on the transport."""
    return Place.of("tcp4", secrets, tmp_path)


@pytest.fixture(params=["conversation", "responder"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both kinds of handler."""
    kind: str = request.param
    return kind
