"""How do I serve over TLS? An echo server with a certificate; the handler notices no difference.

    python examples/tls_echo.py CERTIFICATE.pem [HOST:PORT]

The file holds the certificate chain and its key. To try it:

    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext \
        subjectAltName=DNS:localhost -keyout key.pem -out cert.pem; cat cert.pem key.pem > both.pem
    python examples/tls_echo.py both.pem &
    tieline send localhost:7788 hello --tls-ca cert.pem
"""

import ssl
import sys

import tieline


async def echo(connection: tieline.Connection) -> None:
    session = connection.ssl_object
    async for data in connection:
        if session is not None:
            print(f"{connection.peer} ({session.version()}): {len(data)} bytes", flush=True)
        await connection.send(data)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7788"
tieline.run(
    echo,
    address,
    tls=context,
    ready=lambda server: print("listening on", server.addresses[0], flush=True),
)
