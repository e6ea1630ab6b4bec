"""A dialer without a tunnel: what each half of ptproxy is tested with, and a plain proxy's exit."""

from __future__ import annotations

import asyncio
import socket

from ptproxy.errors import DialError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream
from ptproxy.tunnel.tcp import connect_tcp, reason_of


class DirectDialer:
    """Dials from here, without a tunnel: what each half is tested with."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float = 30.0) -> None:
        self._loop = loop
        self._timeout = timeout

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Connect by TCP; raises :class:`~ptproxy.errors.DialError`."""
        if target.kind != "address":
            raise DialError(Reason.UNSUPPORTED)
        if target.ip is not None:
            hosts = [target.host]
        else:
            try:
                found = await self._loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise DialError(reason_of(error)) from error
            hosts = [str(address[4][0]) for address in found]
        failure = DialError(Reason.NAME_NOT_FOUND)
        for host in hosts:
            try:
                transport = await connect_tcp(self._loop, protocol, host, target.port, self._timeout)
            except DialError as error:
                failure = error
                continue
            if first_data:
                transport.write(first_data)
            return transport
        raise failure

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Datagrams need a far side; refused."""
        del receiver
        raise DialError(Reason.UNSUPPORTED)
