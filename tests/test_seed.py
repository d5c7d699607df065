"""What a beginner's notes on TCP say, note by note: it holds, and it holds with tieline.

Each test is named after its note. The other side is a bare socket that does what the notes'
own programs do: it blocks, speaks GBK, and receives 1,024 bytes at a time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tieline
from support.clock import TICK, Clock
from support.hooks import Watch
from tieline import CloseReason, Connection, Limits, Line

HERE = Path(__file__).parent
SCRIPTS = HERE / "seed_scripts"
SEED = Path(
    os.environ.get("TIELINE_SEED")
    or HERE.parent.parent / "shared" / "seed" / "tcp_client_and_server.md"
)


def thank(connection: Connection, message: str) -> str:
    """The notes' server: whatever one says, it thanks."""
    return "thank you !"


def _address(server: tieline.Server) -> tuple[str, int]:
    return server.addresses[0].host, server.addresses[0].port


def _say(client: socket.socket, text: str) -> str:
    """One send and one receive, as the notes' client does them."""
    client.send(text.encode("gbk"))
    return client.recv(1024).decode("gbk")


def _visit(address: tuple[str, int], text: str) -> str:
    with socket.create_connection(address, 10) as client:
        return _say(client, text)


# ---- 注意点 1 到 9


async def test_note_1_a_server_must_bind() -> None:
    """1. tcp服务器一般情况下都需要绑定，否则客户端找不到这个服务器

    A server binds an address, or its clients cannot find it.
    """
    server = tieline.serve(thank, "127.0.0.1:0", encoding="gbk")
    assert server.addresses == []
    async with server:
        assert _address(server)[1] > 0
        assert await asyncio.to_thread(_visit, _address(server), "你好") == "thank you !"
        with pytest.raises(tieline.BindError):
            await tieline.serve(thank, server.addresses[0]).start()


async def test_note_2_a_client_need_not_bind() -> None:
    """2. tcp客户端一般不绑定，因为是主动链接服务器，本地客户端可以随机

    A client does not bind: its own port is chosen at random.
    """
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk") as server:
        async with (
            tieline.connect(server.addresses[0]) as one,
            tieline.connect(server.addresses[0]) as other,
        ):
            assert 0 != one.local.port != other.local.port != 0
            assert one.peer == other.peer == server.addresses[0]


async def test_note_3_listening_makes_a_socket_passive() -> None:
    """3. listen可以将socket创建出来的主动套接字变为被动的，这是做tcp服务器时必须要做的

    A socket that is bound and does not listen refuses everybody.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(tieline.ConnectError) as caught:
            await tieline.ask(f"127.0.0.1:{bound.getsockname()[1]}", b"hello")
        assert caught.value.fields["errno"] == errno.ECONNREFUSED
    made: list[socket.socket] = []

    def remember(family: int, kind: int) -> socket.socket:
        made.append(socket.socket(family, kind))
        return made[-1]

    server = tieline.serve(thank, "127.0.0.1:0")
    server.make_socket = remember
    async with server:
        assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


async def test_note_4_there_is_no_talk_without_a_connection() -> None:
    """4. 当客户端需要链接服务器时，就需要使用connect进行链接，只有链接成功才能通信

    A client connects first; only then can it send.
    """
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk") as server:
        with socket.socket() as client:
            with pytest.raises(BrokenPipeError):
                client.send(b"not connected")
            await asyncio.to_thread(client.connect, _address(server))
            assert await asyncio.to_thread(_say, client, "你好") == "thank you !"


async def test_note_5_each_client_has_a_socket_of_its_own() -> None:
    """5. 当一个tcp客户端连接服务器时，服务器端会有1个新的套接字，单独为这个客户端服务

    Two clients at once are two connections, and each gets its own answers.
    """

    def name(connection: Connection, message: str) -> str:
        connection.data = (connection.data or "") + message
        return f"{connection.data}"

    watch = Watch()
    async with tieline.serve(name, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        with socket.create_connection(_address(server)) as one:
            with socket.create_connection(_address(server)) as other:
                turns = [(one, "一", "一"), (other, "甲", "甲")]
                turns += [(one, "二", "一二"), (other, "乙", "甲乙")]
                for client, said, heard in turns:
                    assert await asyncio.to_thread(_say, client, said) == heard
                first, second = server.connections
                assert first is not second
                assert first.peer.port == one.getsockname()[1]
                assert second.peer.port == other.getsockname()[1]


async def test_note_6_the_listening_socket_only_accepts() -> None:
    """6. listen后的套接字是被动套接字，用来接收新的客户端的链接请求的

    The listening socket goes on accepting while clients are served, and carries no data.
    """
    watch = Watch()
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        clients = []
        for _ in range(3):
            clients.append(socket.create_connection(_address(server)))
            connection = await watch.next_open()
            assert connection.local == server.addresses[0]
        for client in clients:
            assert await asyncio.to_thread(_say, client, "你好") == "thank you !"
            client.close()


async def test_note_7_closing_the_listening_socket_leaves_the_connected_alone() -> None:
    """7. 关闭listen后的套接字，新的客户端不能够链接服务器，但是之前已经链接成功的客户端正常通信

    `close_listeners`: nobody new gets in, and those inside go on.
    """
    watch = Watch()
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        with socket.create_connection(_address(server)) as client:
            await watch.next_open()
            server.close_listeners()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(_address(server))
            for _ in range(3):
                assert await asyncio.to_thread(_say, client, "还在吗") == "thank you !"


async def test_note_8_closing_a_clients_socket_ends_its_service() -> None:
    """8. 关闭accept返回的套接字意味着这个客户端已经服务完毕

    The conversation returns, the connection is closed; the next client has its own.
    """

    async def serve_once(connection: Connection) -> None:
        await connection.receive()
        await connection.send("thank you !")

    watch = Watch()
    async with tieline.serve(serve_once, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        for _ in range(2):
            with socket.create_connection(_address(server)) as client:
                assert await asyncio.to_thread(_say, client, "你好") == "thank you !"
                assert await asyncio.to_thread(client.recv, 1024) == b""
            assert await watch.next_close() is CloseReason.CLOSED


async def test_note_9_a_client_that_closes_is_seen_to_be_gone() -> None:
    """9. 当客户端的套接字调用close后，服务器端会recv解堵塞，并且返回的长度为0

    The server learns of it at once: the messages end, and the reason is `peer_closed`.
    """
    messages: list[str] = []

    async def listen(connection: Connection) -> None:
        messages.extend([message async for message in connection])
        messages.append("the end")

    watch = Watch()
    async with tieline.serve(listen, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        with socket.create_connection(_address(server)) as client:
            client.send("再见".encode("gbk"))
        assert await watch.next_close() is CloseReason.PEER_CLOSED
    assert messages == ["再见", "the end"]


async def test_note_9_from_the_clients_side_an_empty_message_is_no_end() -> None:
    """An end is told apart from an empty message: `EndOfStreamError`, not `""`."""

    async def speak(connection: Connection) -> None:
        await connection.send("")

    async with tieline.serve(speak, "127.0.0.1:0", framing=Line(), encoding="gbk") as server:
        async with tieline.connect(
            server.addresses[0], framing=Line(), encoding="gbk"
        ) as connection:
            assert await connection.receive() == ""
            with pytest.raises(tieline.EndOfStreamError):
                await connection.receive()


# ---- 长连接和短连接


async def test_a_short_connection() -> None:
    """短连接：建立连接——数据传输——关闭连接...建立连接——数据传输——关闭连接

    One question and one answer to a connection, several times.
    """
    watch = Watch()
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        for times in range(1, 4):
            assert await tieline.ask(server.addresses[0], "你好", encoding="gbk") == "thank you !"
            assert await watch.next_close() is CloseReason.PEER_CLOSED
            assert await asyncio.to_thread(_visit, _address(server), "你好") == "thank you !"
            assert await watch.next_close() is CloseReason.PEER_CLOSED
            assert server.counters.accepted == 2 * times


async def test_a_long_connection() -> None:
    """长连接：建立连接——数据传输...（保持连接）...数据传输——关闭连接

    Many questions and answers on one connection, which the client closes in the end.
    """
    watch = Watch()
    async with tieline.serve(thank, "127.0.0.1:0", encoding="gbk", **watch.hooks) as server:
        with socket.create_connection(_address(server)) as client:
            for _ in range(100):
                assert await asyncio.to_thread(_say, client, "你好") == "thank you !"
        assert await watch.next_close() is CloseReason.PEER_CLOSED
        async with tieline.connect(server.addresses[0], encoding="gbk") as connection:
            for _ in range(100):
                await connection.send("你好")
                assert await connection.receive() == "thank you !"
        assert await watch.next_close() is CloseReason.PEER_CLOSED
    assert server.counters.accepted == 2
    assert server.counters.messages_received == 200


async def test_connections_on_which_nothing_happens_for_long_are_closed() -> None:
    """server端需要采取一些策略，如关闭一些长时间没有读写事件发生的连接

    The idle one goes, the busy one stays.
    """
    clock, watch = Clock(), Watch()
    server = tieline.serve(
        thank, "127.0.0.1:0", encoding="gbk", limits=Limits(idle=60), **watch.hooks
    )
    async with server:
        with (
            socket.create_connection(_address(server)) as idle,
            socket.create_connection(_address(server)) as busy,
        ):
            for client in (idle, busy):
                assert await asyncio.to_thread(_say, client, "你好") == "thank you !"
            for _ in range(2):
                clock.advance(40)
                assert await asyncio.to_thread(_say, busy, "你好") == "thank you !"
            clock.advance(TICK)
            assert await watch.next_close() is CloseReason.IDLE_TIMEOUT
            assert await asyncio.to_thread(idle.recv, 1024) == b""
            assert len(server) == 1


async def test_a_machine_may_hold_so_many_connections_and_no_more() -> None:
    """以客户端机器为颗粒度，限制每个客户端的最大长连接数，避免某个客户端连累后端服务

    127.0.0.2 takes its share and is refused more; 127.0.0.3 does not notice.
    """
    watch = Watch()
    server = tieline.serve(
        thank, "127.0.0.1:0", encoding="gbk", limits=Limits(per_client=3), **watch.hooks
    )
    async with server:
        held = []
        for _ in range(3):
            held.append(socket.create_connection(_address(server), 10, ("127.0.0.2", 0)))
            await watch.next_open()

        def one_more() -> bytes:
            with socket.create_connection(_address(server), 10, ("127.0.0.2", 0)) as client:
                return client.recv(1024)

        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(one_more)
        with socket.create_connection(_address(server), 10, ("127.0.0.3", 0)) as other:
            assert await asyncio.to_thread(_say, other, "你好") == "thank you !"
        for client in held:
            assert await asyncio.to_thread(_say, client, "你好") == "thank you !"
            client.close()
    assert server.counters.refused == {CloseReason.CLIENT_LIMIT: 1}


# ---- Programs like the notes' own


async def _run(*command: str, stdin: str = "") -> str:
    """Run a program to its end; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
    )
    try:
        async with asyncio.timeout(20):
            output, _ = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0
    return output.decode()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


async def test_a_first_client_talks_to_our_server() -> None:
    heard: list[str] = []

    def remember_and_thank(connection: Connection, message: str) -> str:
        heard.append(message)
        return "thank you !"

    async with tieline.serve(remember_and_thank, "127.0.0.1:0", encoding="gbk") as server:
        host, port = _address(server)
        output = await _run(
            sys.executable, str(SCRIPTS / "client.py"), stdin=f"{host}\n{port}\n你好，服务器\n"
        )
    assert "received: thank you !" in output
    assert heard == ["你好，服务器"]


@contextmanager
def _first_server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "server.py"), "0"],
        stdout=subprocess.PIPE, text=True, env=_environment(),
    )  # fmt: skip
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process, int(process.stdout.readline().partition(":")[2])
        finally:
            process.kill()


async def test_our_client_talks_to_a_first_server() -> None:
    with _first_server() as (process, port):
        answer = await tieline.ask(f"127.0.0.1:{port}", "你好，服务器", encoding="gbk")
        assert answer == "thank you !"
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.read) == "received: 你好，服务器\n"
        assert process.wait(10) == 0


async def test_our_blocking_client_talks_to_a_first_server() -> None:
    with _first_server() as (_, port):
        answer = await asyncio.to_thread(
            tieline.blocking.ask, f"127.0.0.1:{port}", "你好", encoding="gbk"
        )
        assert answer == "thank you !"


# ---- The notes' own two programs, as they are, where the notes are at hand


IN_A_NETWORK_OF_ITS_OWN = """
import asyncio, subprocess, sys
import tieline

client, server, with_cli = sys.argv[1], sys.argv[2], sys.argv[3] == "cli"

def thank(connection, message):
    print("our server heard:", message, flush=True)
    return "thank you !"

async def started(process):
    # The program says nothing when it listens; its port does.
    async with asyncio.timeout(20):
        while True:
            listening = open("/proc/net/tcp").read()
            if ":1E6C 00000000:0000 0A" in listening:
                return
            assert process.returncode is None
            await asyncio.sleep(0.01)

async def main():
    async with tieline.serve(thank, "127.0.0.1:7788", encoding="gbk"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, client, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        output, _ = await process.communicate("127.0.0.1\\n7788\\n你好\\n".encode())
        print("their client:", output.decode(), flush=True)

    # Their server serves one client and is gone.
    process = await asyncio.create_subprocess_exec(
        sys.executable, server, stdout=subprocess.PIPE)
    await started(process)
    if with_cli:
        ours = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tieline", "send", "127.0.0.1:7788", "你好",
            "--encoding", "gbk", stdout=subprocess.PIPE)
        output, _ = await ours.communicate()
        print("our client:", output.decode(), flush=True)
    else:
        reply = await tieline.ask("127.0.0.1:7788", "你好", encoding="gbk")
        print("our client:", reply, flush=True)
    output, _ = await process.communicate()
    print("their server:", output.decode(), flush=True)

asyncio.run(main())
"""


def _network_of_its_own() -> list[str]:
    """A command that runs another where port 7788 is free, whoever else is on this machine."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("port 7788 is only sure to be free in a network namespace, which needs root")
    command = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow network namespaces")
    return command


@pytest.mark.one_loop
@pytest.mark.parametrize("ours", ["library", "cli"])
async def test_the_notes_own_programs_talk_to_ours_as_they_are(tmp_path: Path, ours: str) -> None:
    if not SEED.exists():
        pytest.skip("the notes are not at hand (TIELINE_SEED may name them)")
    if ours == "cli":
        pytest.importorskip("click")
    blocks = re.findall(r"^```py\n(.*?)^```", SEED.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    client, server = tmp_path / "client.py", tmp_path / "server.py"
    client.write_text(blocks[0], "utf-8")
    server.write_text(blocks[1], "utf-8")
    output = await _run(
        *_network_of_its_own(), sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN,
        str(client), str(server), ours,
    )  # fmt: skip
    assert "our server heard: 你好" in output
    assert "接收到的数据为: thank you !" in output.partition("our client:")[0]
    assert "thank you !" in output.partition("our client:")[2]
    assert "接收到的数据为: 你好" in output.partition("their server:")[2]
