"""Run by ``test_e2e_plug_xmpp.py``: two people on XMPP send one another a file within the chat's own stream.

Arguments: the port to connect to, the server's certificate, bytes to send each way. Prints one JSON object.
The file travels as In-Band Bytestreams (XEP-0047): every byte through the stream that is looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
from pathlib import Path

import slixmpp

DOMAIN = "xmpp.test"
PASSWORD = "of a test"
BLOCK = 48 << 10
PATIENCE = 240
"""Seconds after which it counts as broken."""


class Person(slixmpp.ClientXMPP):
    """Somebody who takes every file that is sent."""

    def __init__(self, name: str, certificate: Path) -> None:
        super().__init__(f"{name}@{DOMAIN}/test", PASSWORD)
        self.enable_direct_tls = False  # the port speaks STARTTLS, and nothing goes in the clear
        self.ca_certs = certificate
        self.register_plugin("xep_0047", {"auto_accept": True, "max_block_size": BLOCK})
        self.came, self.size = hashlib.sha256(), 0
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.add_event_handler("ibb_stream_data", self._data)
        self.add_event_handler("message", lambda message: self.said.put_nowait(message["body"]))

    def _data(self, stream) -> None:
        data = stream.read()
        self.came.update(data)
        self.size += len(data)

    async def enter(self, port: int) -> None:
        there = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: there.set_result(None), disposable=True)
        self.add_event_handler(
            "failed_auth", lambda _: there.set_exception(PermissionError()), disposable=True
        )
        self.connect("127.0.0.1", port)
        await there

    async def send_file(self, to: slixmpp.JID, size: int, seed: int) -> str:
        """Its hash as it was sent."""
        rng, sent = random.Random(seed), hashlib.sha256()
        stream = await self["xep_0047"].open_stream(to, block_size=BLOCK)
        left = size
        while left:
            data = rng.randbytes(min(BLOCK, left))
            sent.update(data)
            await stream.sendall(data)
            left -= len(data)
        await stream.close()
        return sent.hexdigest()


async def main(port: int, certificate: Path, size: int) -> None:
    anna, ben = Person("anna", certificate), Person("ben", certificate)
    async with asyncio.timeout(PATIENCE):
        for person in (anna, ben):
            await person.enter(port)
        anna.send_message(mto=ben.boundjid, mbody="добрый вечер 👋", mtype="chat")
        heard = await ben.said.get()
        to_ben, to_anna = await asyncio.gather(
            anna.send_file(ben.boundjid, size, 1), ben.send_file(anna.boundjid, size, 2)
        )
        cipher = anna.transport.get_extra_info("cipher")
        for person in (anna, ben):
            await person.disconnect()
    said = {
        "heard": heard, "tls": bool(cipher), "sizes": [anna.size, ben.size],
        "sent": [to_anna, to_ben], "came": [anna.came.hexdigest(), ben.came.hexdigest()],
    }  # fmt: skip
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
