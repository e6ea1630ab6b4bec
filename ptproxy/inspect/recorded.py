"""Hellos of real browsers, recorded: what a client's own are compared with.

``browsers.yaml`` is made by ``scripts/capture_hellos.py`` from installed
browsers, with version and date; it holds what identifies a hello and nothing
that differs between two of one browser (randoms, keys, order where the browser
permutes it, which values of GREASE). The server name is left out: whether one is sent hangs on
the address, not on the browser.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any, Final

import yaml

from ptproxy.codec.client_hello import SERVER_NAME, ClientHello, is_grease
from ptproxy.errors import StartError
from ptproxy.inspect.ja4 import ja4, without_grease

EXTENSION_NAMES: Final = {
    0: "server_name", 5: "status_request", 10: "supported_groups", 11: "ec_point_formats",
    13: "signature_algorithms", 16: "ALPN", 18: "signed_certificate_timestamp", 21: "padding",
    22: "encrypt_then_mac", 23: "extended_master_secret", 27: "compress_certificate", 28: "record_size_limit",
    34: "delegated_credential", 35: "session_ticket", 41: "pre_shared_key", 42: "early_data",
    43: "supported_versions", 45: "psk_key_exchange_modes", 49: "post_handshake_auth", 51: "key_share",
    17513: "application_settings (old)", 17613: "application_settings", 51764: "trust_anchors",
    65037: "encrypted_client_hello", 65281: "renegotiation_info",
}  # fmt: skip
"""As IANA's registry (TLS ExtensionType Values) and drafts that browsers send call them."""


VARYING: Final = frozenset((SERVER_NAME, 21, 35, 41, 65037))
"""Extensions whose size hangs on the connection: name, padding, tickets, a made-up encrypted hello."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What identifies a hello, GREASE left out but for where it stands."""

    versions: tuple[int, ...]
    alpn: tuple[str, ...]
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    """Sorted, without server_name."""
    groups: tuple[int, ...]
    key_shares: tuple[int, ...]
    schemes: tuple[int, ...]
    grease: tuple[str, ...] = ()
    """Where values of GREASE stand: a list's name and the place in it, as ``schemes 0``.

    JA4 does not count them; a censor can."""
    sizes: tuple[str, ...] = ()
    """Type and bytes of every extension whose size is always the same, as ``51: 1263``."""

    @classmethod
    def of(cls, hello: ClientHello) -> Traits:
        """A hello's own."""
        kinds = without_grease(kind for kind, _ in hello.extensions)
        lists = {
            "versions": hello.supported_versions,
            "ciphers": hello.cipher_suites,
            "groups": hello.groups,
            "key_shares": hello.key_share_groups,
            "schemes": hello.signature_algorithms,
        }
        places = [
            f"{name} {at}"
            for name, values in lists.items()
            for at, one in enumerate(values)
            if is_grease(one)
        ]
        places += [f"extensions of {len(body)}" for kind, body in hello.extensions if is_grease(kind)]
        bodies = {kind: len(body) for kind, body in hello.extensions if kind not in VARYING}
        return cls(
            tuple(without_grease(hello.supported_versions)),
            tuple(name.decode("latin-1") for name in hello.alpn),
            tuple(without_grease(hello.cipher_suites)),
            tuple(sorted(kind for kind in kinds if kind != SERVER_NAME)),
            tuple(without_grease(hello.groups)),
            tuple(without_grease(hello.key_share_groups)),
            tuple(without_grease(hello.signature_algorithms)),
            tuple(sorted(places)),
            tuple(f"{kind}: {size}" for kind, size in sorted(bodies.items()) if not is_grease(kind)),
        )

    def differences(self, other: Traits) -> list[str]:
        """What ``self`` has and lacks, one line for each trait that is not ``other``'s."""
        found = []
        for name, mine in asdict(self).items():
            theirs = getattr(other, name)
            if mine == theirs:
                continue
            more = [_named(name, value) for value in mine if value not in theirs]
            less = [_named(name, value) for value in theirs if value not in mine]
            parts = [f"has {', '.join(more)}"] if more else []
            parts += [f"lacks {', '.join(less)}"] if less else []
            found.append(f"{name}: {'; '.join(parts) or 'another order'}")
        return found


@dataclass(frozen=True, slots=True)
class RecordedHello:
    """One browser's hello of one use."""

    browser: str
    version: str
    recorded: str
    """The day, as 2026-11-23."""
    platform: str
    use: str
    """``page`` or ``websocket``."""
    resumed: bool
    """Whether it offers a ticket."""
    ja4: str
    traits: Traits

    def __str__(self) -> str:
        state = "resumed" if self.resumed else "first"
        return f"{self.browser} {self.version.split('.')[0]}, {self.use}, {state}"

    @classmethod
    def of(
        cls, hello: ClientHello, browser: str, version: str, recorded: str, platform: str, use: str
    ) -> RecordedHello:
        """What a browser said just now."""
        resumed = hello.has_pre_shared_key
        return cls(browser, version, recorded, platform, use, resumed, ja4(hello), Traits.of(hello))

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> RecordedHello:
        """From an entry of ``browsers.yaml``."""
        traits = {name: tuple(values) for name, values in entry.pop("traits").items()}
        return cls(**entry, traits=Traits(**traits))

    def serialize(self) -> dict[str, Any]:
        """An entry of ``browsers.yaml``."""
        entry = asdict(self)
        entry["traits"] = {name: list(values) for name, values in entry["traits"].items()}
        return entry


@functools.cache
def recorded_hellos() -> tuple[RecordedHello, ...]:
    """All that are recorded."""
    text = resources.files("ptproxy.inspect").joinpath("browsers.yaml").read_text("utf-8")
    try:
        return tuple(RecordedHello.parse(entry) for entry in yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, KeyError):
        raise StartError("inspect: browsers.yaml of this installation cannot be read") from None


@dataclass(frozen=True, slots=True)
class Likeness:
    """The recorded hello that one is most like."""

    recorded: RecordedHello
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing tells the two apart."""
        return not self.differences


def most_alike(
    hello: ClientHello, use: str, among: Sequence[RecordedHello], browsers: Iterable[str] = ()
) -> Likeness:
    """The recorded hello with the fewest differences; those of ``browsers`` (if any) and of ``use`` first.

    A hello that offers a ticket is compared with ones that do.
    """
    traits, wanted = Traits.of(hello), frozenset(browsers)
    candidates = [one for one in among if not wanted or one.browser in wanted]
    alike = [(one, tuple(traits.differences(one.traits))) for one in candidates]

    def distance(pair: tuple[RecordedHello, tuple[str, ...]]) -> tuple[int, bool, bool]:
        one, told = pair
        count = sum(1 + line.count(",") + line.count(";") for line in told)
        return count, one.use != use, one.resumed is not hello.has_pre_shared_key

    recorded, told = min(alike, key=distance)
    if recorded.use != use:
        told = (f"use: a browser says this for a {recorded.use}, not for a {use}", *told)
    return Likeness(recorded, told)


def _named(trait: str, value: int | str) -> str:
    """A value as people know it."""
    if isinstance(value, str):
        return value
    name = EXTENSION_NAMES.get(value) if trait == "extensions" else None
    return f"{name} ({value})" if name else f"{value:04x}"
