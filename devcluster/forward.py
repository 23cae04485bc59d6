"""Listen on the machine's loopback and connect inside a network namespace.

    forward.py 127.0.0.1:PORT NAMESPACE_FILE HOST:PORT

A socket stays in the namespace it was made in: the listening one is made first, then the process
enters the namespace, and what it opens from there on belongs to the cluster. Bytes pass unread.
"""

import asyncio
import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000


def enter(namespace: str) -> None:
    """Move this process into a network namespace (os.setns exists only from Python 3.12 on)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(namespace) as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns", namespace)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one side says until it ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Forward every connection of a listening socket."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio does this by itself only for sockets that name their protocol; accepted ones do
        # not, and each TLS handshake would wait 40 ms for a delayed acknowledgement.
        near = writer.get_extra_info("socket")
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()  # the client sees a reset, as from a server that is down
            return
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        for side in (writer, far_writer):
            side.close()

    server = await asyncio.start_server(forward, sock=listener)
    await server.serve_forever()


def run(listen: str, namespace: str, far: str) -> None:
    """Listen here, connect there, for ever. Raises OSError when the port is taken."""
    near_host, near_port = listen.rsplit(":", 1)
    far_host, far_port = far.rsplit(":", 1)
    listener = socket.create_server((near_host, int(near_port)), backlog=128)
    enter(namespace)
    os.chdir("/")
    asyncio.run(serve(listener, far_host, int(far_port)))


if __name__ == "__main__":
    run(*sys.argv[1:])
