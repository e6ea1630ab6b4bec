"""What a plugged-in bridge is: its key, its secret path, its certificate; made at the first start, then kept.

=================  ==============================================================================
bridge.key         the X25519 private key, as ``ptproxy init`` writes one
certificate.pem    a self-signed certificate for an invented name, where the operator gave none
certificate.key    its private key
line.json          what clients are told of these, so that it can be said before they are loaded
=================  ==============================================================================

Losing the folder makes every bridge line that was handed out useless.
"""

from __future__ import annotations

import base64
import random
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError
from ptproxy.pt.wanted import Wanted
from ptproxy.state import Json, StateFolder, write_file

DOCUMENT: Final = "line"
KEY_FILE: Final = "bridge.key"
CERTIFICATE_FILE: Final = "certificate.pem"
PRIVATE_FILE: Final = "certificate.key"

LOCK_WAIT: Final = 5.0
"""Seconds for a predecessor to leave the folder: a parent that restarts starts us before it has ended."""
LOCK_PAUSE: Final = 0.05
"""Seconds between tries."""
PATH_BYTES: Final = 9
"""Random bytes of the secret path: 72 bits, though the key is what lets clients in."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,252}")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")


@dataclass(frozen=True, slots=True)
class Identity:
    """The bridge as its clients are told of it."""

    public: bytes
    """32 bytes."""
    path: str
    name: str
    """The TLS server name."""
    pin: bytes
    """SHA-256 of its own certificate; ``b""`` where the operator's is used, for which authorities vouch."""

    def serialize(self) -> Json:
        """The document's data."""
        return {"public": self.public.hex(), "path": self.path, "name": self.name, "pin": self.pin.hex()}

    @classmethod
    def parse(cls, data: Json) -> Identity:
        """The reverse; raises :class:`ValueError`."""
        texts = [data.get(key) for key in ("public", "path", "name", "pin")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("not an identity")
        public, path, name, pin = (str(text) for text in texts)
        found = cls(bytes.fromhex(public), path, name, bytes.fromhex(pin))
        if len(found.public) != 32 or len(found.pin) not in (0, 32):
            raise ValueError("not an identity")
        if not _PATH.fullmatch(path) or not _NAME.fullmatch(name):
            raise ValueError("not an identity")
        return found


def hold_folder(path: Path, seconds: float = LOCK_WAIT) -> StateFolder:
    """The state folder, once a predecessor has left it; raises :class:`~ptproxy.errors.StartError`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return StateFolder(path)
        except StartError:
            if time.monotonic() >= deadline or not (path / "lock").exists():
                raise
        time.sleep(LOCK_PAUSE)


def load_identity(state: StateFolder, wanted: Wanted) -> Identity:
    """The bridge's identity, made where there is none; raises :class:`~ptproxy.errors.StartError`."""
    if wanted.config is not None:
        from ptproxy.pt.written_bridge import read_written, written_identity  # noqa: PLC0415  (only for it)

        return written_identity(read_written(wanted.config))
    document = state.document(DOCUMENT)
    data = document.read()
    known = None
    if data is not None:
        try:
            known = Identity.parse(data)
        except ValueError:
            raise StartError(
                f"{document.path} is damaged; put a backup in its place, or move it away to start afresh"
            ) from None
    name = "" if wanted.certificate is not None else wanted.name
    if known is None or name not in ("", known.name):
        known = _make(state.path, name, known)
        document.write(known.serialize())
    if wanted.certificate is not None:
        from ptproxy.tunnel.certificate import pin_for  # noqa: PLC0415  (only for certificates of others)

        return replace(known, name=wanted.name, pin=pin_for(wanted.certificate) or b"")
    return known


def _make(folder: Path, name: str, before: Identity | None) -> Identity:
    """Make what is missing. Key and path stay what they are as long as there is a key."""
    from ptproxy.auth.credentials import StaticKey  # noqa: PLC0415  (only at the first start)
    from ptproxy.config.keyfile import read_key  # noqa: PLC0415

    rng = random.SystemRandom()
    key_file = folder / KEY_FILE
    if key_file.exists():
        try:
            key = StaticKey.parse_private(read_key(key_file))
        except ValueError as error:
            raise StartError(str(error)) from None
    else:
        key = StaticKey.generate(rng)
        write_file(key_file, key.serialize_private() + "\n", replace=False)
    path = before.path if before is not None else f"/{_text(rng, PATH_BYTES)}"
    name = name or invented_name(rng)
    return Identity(key.public, path, name, _certificate(folder, name, rng))


def _certificate(folder: Path, name: str, rng: random.Random) -> bytes:
    """Make a self-signed certificate; returns its SHA-256."""
    import datetime  # noqa: PLC0415  (only at the first start)

    from ptproxy.tunnel.certificate import self_signed  # noqa: PLC0415
    from ptproxy.tunnel.tls import leaf_digest  # noqa: PLC0415

    certificate, private = self_signed(name, datetime.datetime.now(datetime.UTC), rng)
    write_file(folder / PRIVATE_FILE, private)
    write_file(folder / CERTIFICATE_FILE, certificate)
    return leaf_digest(folder / CERTIFICATE_FILE)


def invented_name(rng: random.Random) -> str:
    """A host name that nobody chose: what a certificate that is bound to no site may show."""
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(7, 14)))
    return f"{rng.choice(('', 'www.', 'cdn.', 'mail.'))}{letters}.{rng.choice(('com', 'net', 'org'))}"


def _text(rng: random.Random, size: int) -> str:
    return base64.urlsafe_b64encode(rng.randbytes(size)).rstrip(b"=").decode("ascii")
