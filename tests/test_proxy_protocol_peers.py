"""The PROXY protocol as others speak it: haproxy, nginx and curl, both ways.

Where one of them is missing, its tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.transports import Secrets
from tieline import Address
from tieline.proxy_protocol import Header, TlvType, build, parse

PATIENCE = 20.0

NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

FOUR, OTHER_FOUR = Address("192.0.2.7", 51_000), Address("198.51.100.1", 443)
SIX, OTHER_SIX = Address("2001:db8::7", 51_000), Address("2001:db8::1", 443)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def name_of(end: socket.socket, peer: bool = False) -> Address:
    name = end.getpeername() if peer else end.getsockname()
    return Address.from_socket_name(end.family, name)


class Arrived:
    """A connection that has come, its header, and what came behind that."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket, _ = listening.accept()
        self.socket.settimeout(PATIENCE)
        data = b""
        header: Header | None = None
        try:
            while header is None:
                piece = self.socket.recv(4_096)
                assert piece, f"no header in {data!r}"
                data += piece
                header = parse(data)
        except BaseException:
            self.socket.close()
            raise
        self.header = header
        self.raw = data[: header.size]
        self._rest = data[header.size :]

    def until(self, end: bytes) -> bytes:
        while end not in self._rest:
            piece = self.socket.recv(4_096)
            assert piece, self._rest
            self._rest += piece
        return self._rest

    def __enter__(self) -> Arrived:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextmanager
def listening(host: str = "127.0.0.1", path: Path | None = None) -> Iterator[socket.socket]:
    if path is not None:
        family, name = socket.AF_UNIX, str(path)
    else:
        family, name = (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, 0)  # type: ignore[assignment]
    with socket.socket(family) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(name)
        listener.listen()
        yield listener


@contextmanager
def connected(listener: socket.socket, source: str = "") -> Iterator[socket.socket]:
    with socket.socket(listener.family) as client:
        client.settimeout(PATIENCE)
        if source:
            client.bind((source, 0))
        client.connect(listener.getsockname())
        yield client


def everything(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(4_096):
        data += piece
    return data


@contextmanager
def running(
    *command: str, inherited: socket.socket, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """A program that serves on a socket of ours: it is connected to before it has begun."""
    process = subprocess.Popen(
        command,
        pass_fds=[inherited.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield
        assert process.poll() is None, process.communicate()[0].decode()
        process.terminate()
        process.communicate(timeout=PATIENCE)
    finally:
        # With its workers, if there are any left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# ---- haproxy


@contextmanager
def haproxy(
    where: Path, door: socket.socket, bind: str = "", lines: str = "", mode: str = "tcp"
) -> Iterator[None]:
    config = where / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 100\n"
        f"defaults\n  mode {mode}\n"
        "  timeout connect 10s\n  timeout client 10s\n  timeout server 10s\n"
        f"listen door\n  bind fd@{door.fileno()} {bind}\n  {lines}\n",
        "utf-8",
    )
    door.set_inheritable(True)
    with running("haproxy", "-db", "-q", "-f", str(config), inherited=door):
        yield


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("option", "version"),
    [
        ("send-proxy", 1),
        ("send-proxy-v2", 2),
        ("send-proxy-v2 proxy-v2-options crc32c", 2),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", 2),
    ],
)
@needs("haproxy")
def test_haproxy_tells_us_of_a_client(option: str, version: int, host: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        door, upstream = stack.enter_context(listening(host)), stack.enter_context(listening())
        line = (
            f"unique-id-format id-%cp\n  server up 127.0.0.1:{upstream.getsockname()[1]} {option}"
        )
        stack.enter_context(haproxy(tmp_path, door, lines=line))
        client = stack.enter_context(connected(door, host.replace("0.0.1", "0.0.9")))
        client.sendall(b"hello\n")
        arrived = stack.enter_context(Arrived(upstream))
        header = arrived.header
        assert (header.version, header.command) == (version, "proxy")
        assert header.family == ("inet6" if ":" in host else "inet")
        assert (header.source, header.destination) == (name_of(client), name_of(door))
        assert arrived.until(b"\n") == b"hello\n"
        if "unique-id" in option:
            assert header.unique_id == b"id-%d" % name_of(client).port
        elif "crc32c" not in option:
            # What it writes we write too.
            assert arrived.raw == build(version, header.source, header.destination)
        else:
            built = build(version, header.source, header.destination, checksum=True)
            assert arrived.raw == built


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
@needs("haproxy")
def test_haproxy_tells_us_of_a_client_without_an_address(option: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        door = stack.enter_context(listening(path=tmp_path / "door"))
        upstream = stack.enter_context(listening())
        line = f"server up 127.0.0.1:{upstream.getsockname()[1]} {option}"
        stack.enter_context(haproxy(tmp_path, door, lines=line))
        client = stack.enter_context(connected(door))
        client.sendall(b"hello\n")
        arrived = stack.enter_context(Arrived(upstream))
        # As we write it.
        assert arrived.raw == build(2 if "v2" in option else 1, None, None)
        assert arrived.header.source is None
        assert arrived.until(b"\n") == b"hello\n"


@needs("haproxy")
def test_haproxy_looks_whether_we_are_there(tmp_path: Path) -> None:
    with ExitStack() as stack:
        door, upstream = stack.enter_context(listening()), stack.enter_context(listening())
        port = upstream.getsockname()[1]
        line = f"server up 127.0.0.1:{port} send-proxy-v2 check check-send-proxy inter 100ms"
        stack.enter_context(haproxy(tmp_path, door, lines=line))
        header = stack.enter_context(Arrived(upstream)).header
        assert header == Header(2, "local", "unspec", None, None, header.size)


@needs("haproxy")
def test_haproxy_tells_us_of_a_client_s_tls(secrets: Secrets, tmp_path: Path) -> None:
    pem, authority = tmp_path / "server.pem", tmp_path / "authority.pem"
    secrets.certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    secrets.authority.cert_pem.write_to_path(str(authority))
    context = ssl.create_default_context()
    secrets.authority.configure_trust(context)
    secrets.authority.issue_cert("client.example", common_name="Zoë").configure_cert(context)
    with ExitStack() as stack:
        door, upstream = stack.enter_context(listening()), stack.enter_context(listening())
        line = (
            f"server up 127.0.0.1:{upstream.getsockname()[1]} send-proxy-v2-ssl-cn "
            "proxy-v2-options authority,ssl,cert-cn,ssl-cipher,cert-sig,cert-key,crc32c"
        )
        bind = f"ssl crt {pem} ca-file {authority} verify optional"
        stack.enter_context(haproxy(tmp_path, door, bind, line))
        client = stack.enter_context(connected(door))
        with context.wrap_socket(client.dup(), server_hostname="localhost") as secure:
            secure.sendall(b"hello\n")
            arrived = stack.enter_context(Arrived(upstream))
            assert arrived.until(b"\n") == b"hello\n"
            header, cipher = arrived.header, secure.cipher()
            assert cipher is not None
            told = header.ssl
            assert told is not None
            assert (told.has_tls, told.has_certificate, told.is_verified) == (True, True, True)
            assert (told.version, told.cipher) == (secure.version(), cipher[0])
            assert told.common_name == "Zoë"
            assert told.signature_algorithm
            assert told.key_algorithm
            assert header.authority == "localhost"
            assert header.source == name_of(client)


def _asked(door: socket.socket, data: bytes) -> list[str]:
    """What haproxy or nginx has understood of a header."""
    with connected(door) as client:
        # In one piece: the protocol allows them not to wait for the rest.
        client.sendall(data)
        return everything(client).rpartition(b"\n")[2].decode().split("|")


def _refused(door: socket.socket, data: bytes) -> bool:
    with connected(door) as client:
        client.sendall(data)
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True


ACCEPTED = [
    (build(1, FOUR, OTHER_FOUR), FOUR, OTHER_FOUR),
    (build(1, SIX, OTHER_SIX), SIX, OTHER_SIX),
    (build(1, FOUR, OTHER_SIX), Address("::ffff:192.0.2.7", 51_000), OTHER_SIX),
    (build(2, FOUR, OTHER_FOUR), FOUR, OTHER_FOUR),
    (build(2, SIX, OTHER_SIX), SIX, OTHER_SIX),
    (build(2, FOUR, OTHER_FOUR, checksum=True), FOUR, OTHER_FOUR),
    (build(2, SIX, OTHER_SIX, tlvs=[(4, bytes(7)), (0xE0, b"x")], checksum=True), SIX, OTHER_SIX),
]
WITHOUT = [
    build(1, None, None),
    build(2, None, None),
    build(2, FOUR, Address(path="/x")),
    build(2, None, None, tlvs=[(TlvType.UNIQUE_ID, b"x")], checksum=True),
]
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@needs("haproxy")
def test_haproxy_understands_us(tmp_path: Path) -> None:
    said = "%[src]|%[src_port]|%[dst]|%[dst_port]|%[fc_pp_authority]|%[fc_pp_unique_id]"
    line = f'http-request return status 200 content-type text/plain lf-string "\\n{said}"'
    with listening() as door, haproxy(tmp_path, door, "accept-proxy", line, "http"):
        for header, source, destination in ACCEPTED:
            assert _asked(door, header + REQUEST)[:4] == [
                source.host, str(source.port), destination.host, str(destination.port),
            ], header  # fmt: skip
        for header in WITHOUT:
            assert _asked(door, header + REQUEST)[0] == "127.0.0.1"
        tlvs = [(TlvType.AUTHORITY, b"a.example"), (TlvType.UNIQUE_ID, b"x7")]
        header = build(2, FOUR, OTHER_FOUR, tlvs=tlvs, checksum=True)
        assert _asked(door, header + REQUEST)[4:] == ["a.example", "x7"]
        # And it judges a checksum as we do.
        assert _refused(door, header[:-1] + bytes([header[-1] ^ 1]) + REQUEST)


# ---- nginx


@contextmanager
def nginx(where: Path, door: socket.socket, lines: str) -> Iterator[None]:
    host, port = door.getsockname()[:2]
    listens = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    config = where / "nginx.conf"
    config.write_text(
        f"load_module {NGINX_STREAM};\ndaemon off;\n"
        f"pid {where}/pid;\nerror_log stderr crit;\nevents {{}}\n"
        f"stream {{ server {{ listen {listens} {lines} }} }}\n",
        "utf-8",
    )
    # This is how one nginx hands its sockets to the next.
    environment = {"NGINX": f"{door.fileno()};"}
    command = ["nginx", "-p", str(where), "-e", "stderr", "-c", str(config)]
    program = shutil.which(command[0])
    assert program is not None
    with running(program, *command[1:], inherited=door, environment=environment):
        yield


needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") and NGINX_STREAM.exists()), reason="nginx is not installed"
)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@needs_nginx
def test_nginx_tells_us_of_a_client(host: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        door, upstream = stack.enter_context(listening(host)), stack.enter_context(listening())
        port = upstream.getsockname()[1]
        lines = f"; proxy_protocol on; proxy_pass 127.0.0.1:{port};"
        stack.enter_context(nginx(tmp_path, door, lines))
        client = stack.enter_context(connected(door, host.replace("0.0.1", "0.0.9")))
        client.sendall(b"hello\n")
        arrived = stack.enter_context(Arrived(upstream))
        header = arrived.header
        assert (header.version, header.family) == (1, "inet6" if ":" in host else "inet")
        assert (header.source, header.destination) == (name_of(client), name_of(door))
        assert arrived.raw == build(1, header.source, header.destination)
        assert arrived.until(b"\n") == b"hello\n"


@needs_nginx
def test_nginx_understands_us(tmp_path: Path) -> None:
    said = "|".join(
        f"$proxy_protocol_{each}" for each in ("addr", "port", "server_addr", "server_port")
    )
    with listening() as door, nginx(tmp_path, door, f'proxy_protocol; return "{said}";'):
        for header, source, destination in ACCEPTED:
            assert _asked(door, header) == [
                source.host, str(source.port), destination.host, str(destination.port),
            ], header  # fmt: skip
        for header in WITHOUT:
            assert _asked(door, header)[0] == "", header


# ---- curl


def _curl(url: str, *options: str) -> subprocess.Popen[bytes]:
    command = ["curl", "--silent", "--max-time", "20", "--haproxy-protocol", *options, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
@needs("curl")
def test_curl_tells_us_of_itself(host: str, tmp_path: Path) -> None:
    path = tmp_path / "door" if host == "unix" else None
    with ExitStack() as stack:
        door = stack.enter_context(listening(host, path))
        if path is not None:
            curl = _curl("http://localhost/", "--unix-socket", str(path))
        else:
            name = name_of(door)
            curl = _curl(f"http://{name}/")
        try:
            arrived = stack.enter_context(Arrived(door))
            header = arrived.header
            assert arrived.until(b"\r\n\r\n").startswith(b"GET / HTTP/1.1\r\n")
            if path is not None:
                assert header.family == "unknown"
            else:
                # Its own address first.
                assert header.source == name_of(arrived.socket, peer=True)
                assert header.destination == name_of(door)
                assert header.family == ("inet6" if ":" in host else "inet")
            arrived.socket.sendall(b"HTTP/1.0 200 OK\r\n\r\nthank you")
            arrived.socket.close()
            assert curl.communicate(timeout=PATIENCE)[0] == b"thank you"
        finally:
            curl.kill()
            curl.communicate()
