"""What the operator of a plugged-in bridge may set, in a parent's options.

===========  ====================================================================================
name         the TLS server name; an invented one when absent
certificate  a PEM file with the certificate for that name, and
private-key  one with its key; when absent, the bridge signs its own, which its line pins
site         what strangers see: ``builtin`` (when absent; for trials) or a web server's TLS port,
             as in ``https://127.0.0.1:8443``
config       instead of all these: a bridge's configuration file (``written_bridge``; tor's only)
===========  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.config.quantities import parse_host, parse_site
from ptproxy.errors import StartError

OPTIONS: Final = ("name", "certificate", "private-key", "site", "config")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings; None and ``""`` for what is not set."""

    name: str = ""
    certificate: Path | None = None
    private_key: Path | None = None
    site: str = "builtin"
    config: Path | None = None

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Wanted:
        """Raises :class:`~ptproxy.errors.StartError`, with what would be right."""
        for option in options:
            if option not in OPTIONS:
                raise StartError(f"there is no option {option[:20]!r}, only {', '.join(OPTIONS)}")
        if "config" in options:
            if len(options) > 1:
                raise StartError("config says all that the other options say: leave them out")
            if not Path(options["config"]).is_absolute():
                raise StartError("config is an absolute file name")
            return cls(config=Path(options["config"]))
        certificate, private = options.get("certificate"), options.get("private-key")
        name, site = options.get("name", ""), options.get("site", "builtin")
        if bool(certificate) != bool(private):
            raise StartError("certificate and private-key go together")
        if any(file and not Path(file).is_absolute() for file in (certificate, private)):
            raise StartError("certificate and private-key are absolute file names")
        if certificate and not name:
            raise StartError("name must say which host the certificate is for")
        try:
            parse_site(site)
            name = parse_host(name) if name else ""
        except ValueError as error:
            raise StartError(str(error)) from None
        return cls(name, Path(certificate) if certificate else None, Path(private) if private else None, site)
