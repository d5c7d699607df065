"""Programs that were not written for us: ncat, socat, openssl, redis.

`scripts/install-test-peers` installs them; where one is missing, its tests are skipped.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tieline
from support.hooks import Watch, echo, eventually
from support.transports import Place, Secrets
from tieline import Address, CloseReason, Connection, Delimiter, Fixed, Limits, Line, Server

PIPE = asyncio.subprocess.PIPE


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program with its standard streams, and its end."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        # The pipes are closed by the loop's next rounds.
        for _ in range(5):
            await asyncio.sleep(0)


async def _run(*command: str, stdin: bytes = b"") -> bytes:
    """Run a program to its end; what it printed."""
    async with asyncio.timeout(20), running(*command) as process:
        output, _ = await process.communicate(stdin)
        assert process.returncode == 0
        return output


def _port(server: Server) -> str:
    return str(server.addresses[0].port)


def _free_port() -> int:
    """A port that nobody listens on, for programs that cannot choose one and say so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _when_it_listens(address: Address | str, **options: object) -> Connection:
    """Connect as soon as somebody listens: programs do not say when they do."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await tieline.connect(address, **options)  # type: ignore[arg-type]
            except tieline.ConnectError:
                await asyncio.sleep(0.01)


# ---- ncat


@needs("ncat")
async def test_ncat_asks_our_server(kind: str) -> None:
    watch = Watch()
    async with tieline.serve(echo(kind), "127.0.0.1:0", framing=Line(), **watch.hooks) as server:
        output = await _run("ncat", "127.0.0.1", _port(server), stdin=b"one\ntwo\nthree\n")
        assert output == b"one\ntwo\nthree\n"
        assert await watch.next_close() is CloseReason.PEER_CLOSED


@needs("ncat")
async def test_ncat_that_sends_nothing_and_only_listens() -> None:
    async def tell(connection: Connection) -> None:
        for number in range(3):
            await connection.send(b"%d" % number)

    async with tieline.serve(tell, "127.0.0.1:0", framing=Line()) as server:
        output = await _run("ncat", "--recv-only", "127.0.0.1", _port(server))
        assert output == b"0\n1\n2\n"


@needs("ncat")
async def test_our_client_asks_ncat() -> None:
    port = _free_port()
    async with running("ncat", "-l", "127.0.0.1", str(port)) as ncat:
        connection = await _when_it_listens(f"127.0.0.1:{port}", framing=Line())
        async with connection:
            assert ncat.stdin is not None
            assert ncat.stdout is not None
            await connection.send(b"hello, ncat")
            assert await ncat.stdout.readline() == b"hello, ncat\n"
            ncat.stdin.write(b"hello, tieline\n")
            assert await connection.receive() == b"hello, tieline"


@needs("ncat")
async def test_ncat_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    async with tieline.serve(echo("responder"), f"unix:{path}", framing=Line()):
        assert await _run("ncat", "-U", str(path), stdin=b"hello\n") == b"hello\n"


@needs("ncat")
async def test_ncat_over_tls(secrets: Secrets) -> None:
    async with tieline.serve(
        echo("responder"), "127.0.0.1:0", framing=Line(), tls=secrets.server
    ) as server:
        output = await _run("ncat", "--ssl", "127.0.0.1", _port(server), stdin=b"hello\n")
        assert output == b"hello\n"


@needs("ncat")
async def test_ncat_with_many_bytes_both_ways() -> None:
    """Ten million of them, through a peer with buffers of its own."""
    data = bytes(range(256)) * 40_000
    limits = Limits(max_owed=1 << 25)
    async with tieline.serve(echo("conversation"), "127.0.0.1:0", limits=limits) as server:
        assert await _run("ncat", "127.0.0.1", _port(server), stdin=data) == data


# ---- socat


@needs("socat")
async def test_socat_half_closes_and_is_answered() -> None:
    async def count(connection: Connection) -> None:
        size = 0
        async for message in connection:
            size += len(message)
        await connection.send(b"%d" % size)

    async with tieline.serve(count, "127.0.0.1:0") as server:
        address = f"TCP:127.0.0.1:{_port(server)}"
        assert await _run("socat", "-t10", "-", address, stdin=b"x" * 300_000) == b"300000"


@needs("socat")
async def test_socat_over_ipv6() -> None:
    async with tieline.serve(echo("conversation"), "[::1]:0") as server:
        address = f"TCP6:[::1]:{_port(server)}"
        assert await _run("socat", "-t10", "-", address, stdin=b"hello") == b"hello"


@needs("socat")
async def test_socat_over_an_abstract_unix_socket(tmp_path: Path) -> None:
    name = f"tieline-{tmp_path.name}-{id(tmp_path)}"
    async with tieline.serve(echo("conversation"), f"unix:@{name}"):
        assert await _run("socat", "-t10", "-", f"ABSTRACT:{name}", stdin=b"hello") == b"hello"


@needs("socat")
async def test_our_client_through_socat_to_our_server() -> None:
    """A relay that knows nothing of either."""
    port = _free_port()
    watch = Watch()
    async with tieline.serve(
        echo("responder"), "127.0.0.1:0", framing=Line(), **watch.hooks
    ) as server:
        relay = ("socat", f"TCP-LISTEN:{port},bind=127.0.0.1", f"TCP:127.0.0.1:{_port(server)}")
        async with running(*relay):
            connection = await _when_it_listens(f"127.0.0.1:{port}", framing=Line())
            for number in range(100):
                await connection.send(b"%d" % number)
                assert await connection.receive() == b"%d" % number
            connection.close()
            await connection.wait_closed()
            assert await watch.next_close() is CloseReason.PEER_CLOSED


# ---- openssl


@needs("openssl")
@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
async def test_openssl_talks_to_our_server(
    secrets: Secrets, tmp_path: Path, option: str, version: str, kind: str
) -> None:
    authority = tmp_path / "authority.pem"
    secrets.authority.cert_pem.write_to_path(str(authority))
    watch = Watch()
    async with tieline.serve(
        echo(kind), "127.0.0.1:0", framing=Line(), tls=secrets.server, **watch.hooks
    ) as server:
        command = (
            "openssl", "s_client", "-connect", f"127.0.0.1:{_port(server)}", "-quiet",
            "-no_ign_eof", option, "-verify_return_error", "-verify_hostname", "localhost",
            "-CAfile", str(authority),
        )  # fmt: skip
        async with running(*command) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            connection = await watch.next_open()
            for word in (b"one", b"two"):
                client.stdin.write(word + b"\n")
                while (line := await client.stdout.readline()) != word + b"\n":
                    assert line  # what it says about the certificate
            assert connection.ssl_object is not None
            assert connection.ssl_object.version() == version
            client.stdin.close()
            assert await watch.next_close() in (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET)


@needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_our_client_talks_to_openssl(secrets: Secrets, tmp_path: Path, version: str) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in secrets.certificate.cert_chain_pems))
    secrets.certificate.private_key_pem.write_to_path(str(key))
    port = _free_port()
    command = (
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(certificate),
        "-key", str(key), "-quiet", version,
    )  # fmt: skip
    async with running(*command) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        connection = await _when_it_listens(f"127.0.0.1:{port}", framing=Line(), tls=secrets.client)
        async with connection:
            await connection.send(b"hello, openssl")
            assert await server.stdout.readline() == b"hello, openssl\n"
            server.stdin.write(b"hello, tieline\n")
            assert await connection.receive() == b"hello, tieline"


@needs("openssl")
async def test_openssl_that_trusts_nobody_of_ours_goes_away(secrets: Secrets) -> None:
    watch = Watch()
    async with tieline.serve(
        echo("conversation"), "127.0.0.1:0", tls=secrets.server, **watch.hooks
    ) as server:
        command = (
            "openssl", "s_client", "-connect", f"127.0.0.1:{_port(server)}",
            "-verify_return_error",
        )  # fmt: skip
        async with running(*command) as client:
            assert await watch.next_close() in (CloseReason.TLS_ERROR, CloseReason.PEER_RESET)
            assert await client.wait() != 0
    assert server.counters.handler_errors == 0


# ---- redis


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[Address]:
    """A real Redis, on a Unix socket."""
    path = folder / "redis.sock"
    command = (
        "redis-server", "--port", "0", "--unixsocket", str(path), "--save", "",
        "--appendonly", "no", "--dir", str(folder),
    )  # fmt: skip
    async with running(*command):
        connection = await _when_it_listens(f"unix:{path}")
        connection.abort()
        yield Address(path=str(path))


CRLF = Delimiter(b"\r\n")


@needs("redis-server")
async def test_inline_commands_to_redis(tmp_path: Path) -> None:
    async with redis(tmp_path) as address:
        assert await tieline.ask(address, b"PING", framing=CRLF) == b"+PONG"
        async with tieline.connect(address, framing=CRLF) as connection:
            for question, answer in (
                (b"SET name tieline", b"+OK"), (b"INCR count", b":1"), (b"INCR count", b":2"),
                (b"NONSENSE", None),
            ):  # fmt: skip
                await connection.send(question)
                reply = await connection.receive()
                assert reply == answer if answer else reply.startswith(b"-ERR unknown command")


@needs("redis-server")
async def test_ten_thousand_commands_in_a_row_to_redis(tmp_path: Path) -> None:
    """Sent without waiting for the answers, which come all the same and in order."""
    async with redis(tmp_path) as address, tieline.connect(address, framing=CRLF) as connection:

        async def ask() -> None:
            for _ in range(10_000):
                await connection.send(b"INCR count")

        asking = asyncio.create_task(ask())
        for number in range(1, 10_001):
            assert await connection.receive() == b":%d" % number
        await asking


@needs("redis-server")
async def test_redis_publishes_to_our_subscriber(tmp_path: Path) -> None:
    async with redis(tmp_path) as address:
        async with tieline.connect(address, framing=Line()) as subscriber:
            await subscriber.send(b"SUBSCRIBE news")
            lines = [await subscriber.receive() for _ in range(6)]
            assert lines[-1] == b":1"
            assert await tieline.ask(address, b"PUBLISH news hello", framing=CRLF) == b":1"
            lines = [await subscriber.receive() for _ in range(7)]
            assert lines[-1] == b"hello"


@needs("redis-server")
async def test_redis_that_quits_ends_the_connection(tmp_path: Path) -> None:
    async with redis(tmp_path) as address:
        async with tieline.connect(address, framing=CRLF) as connection:
            await connection.send(b"QUIT")
            assert [message async for message in connection] == [b"+OK"]


@needs("redis-server")
async def test_redis_through_a_server_of_ours(tmp_path: Path) -> None:
    """A proxy in a dozen lines: two connections, each other's handlers."""

    async with redis(tmp_path) as address:

        async def proxy(near: Connection) -> None:
            async with tieline.connect(address) as far:

                async def forward(source: Connection, target: Connection) -> None:
                    async for data in source:
                        await target.send(data)
                    target.close()

                async with asyncio.TaskGroup() as group:
                    group.create_task(forward(near, far))
                    group.create_task(forward(far, near))

        watch = Watch()
        async with tieline.serve(proxy, "127.0.0.1:0", **watch.hooks) as server:
            async with tieline.connect(server.addresses[0], framing=CRLF) as client:
                for _ in range(3):
                    await client.send(b"PING")
                    assert await client.receive() == b"+PONG"
            await watch.next_close()
            await eventually(lambda: len(server) == 0)


# ---- A peer of fixed records, written in C


@needs("gcc")
@pytest.mark.one_loop
async def test_a_device_that_speaks_records_of_fixed_size(plain: Place, tmp_path: Path) -> None:
    source = tmp_path / "device.c"
    source.write_text(
        r"""
        #include <arpa/inet.h>
        #include <stdint.h>
        #include <stdlib.h>
        #include <sys/socket.h>
        #include <unistd.h>

        struct record { uint32_t number; uint32_t square; };

        int main(int count, char **arguments) {
            struct sockaddr_in there = {AF_INET, htons(atoi(arguments[1])), {0}, {0}};
            inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
            int connection = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(connection, (struct sockaddr *)&there, sizeof there)) return 1;
            for (uint32_t number = 0; number < 1000; number++) {
                struct record asked = {htonl(number), 0}, answer;
                if (send(connection, &asked, sizeof asked, 0) != sizeof asked) return 2;
                ssize_t size = recv(connection, &answer, sizeof answer, MSG_WAITALL);
                if (size != sizeof answer) return 3;
                if (ntohl(answer.square) != number * number) return 4;
            }
            return close(connection);
        }
        """
    )
    await _run("gcc", "-O1", "-o", str(tmp_path / "device"), str(source))

    def square(connection: Connection, record: bytes) -> bytes:
        number = int.from_bytes(record[:4], "big")
        return record[:4] + (number * number).to_bytes(4, "big")

    async with plain.serve(square, framing=Fixed(8)) as server:
        await _run(str(tmp_path / "device"), _port(server))
    assert server.counters.messages_received == 1000
