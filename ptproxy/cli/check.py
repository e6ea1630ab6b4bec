"""``ptproxy check``, and loading a configuration with every check there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ptproxy.cli.words import FILE
from ptproxy.codec import codec_table
from ptproxy.config.directory_model import DirectoryConfig
from ptproxy.config.load import AnyConfig, load
from ptproxy.config.model import BridgeConfig, ClientConfig, Config
from ptproxy.config.rules import Conflict
from ptproxy.errors import ConfigError, StartError


def load_checked(path: Path, role: str | None = None) -> AnyConfig:
    """A configuration that can run on this machine, as far as looking at it tells.

    Raises :class:`~ptproxy.errors.ConfigError`.
    """
    rules = (_egress, _codecs, _shape, _tls, _profile, _user)
    return load(path, role=role, codecs=tuple(codec_table()), rules=rules)


def _egress(config: Config) -> Iterator[Conflict]:
    """The egress rules, read by what applies them."""
    if not isinstance(config, BridgeConfig):
        return
    from ptproxy.proxy.policy import EgressPolicy

    egress = config.egress
    try:
        EgressPolicy.parse(allow=egress.allow, deny=egress.deny, ports=egress.ports)
    except ConfigError as error:
        for problem in error.problems:
            field, _, text = problem.partition(": ")
            name, _, index = field.rstrip("]").partition("[")
            yield Conflict(f"{name}.{index}" if index else name, text)


def _codecs(config: Config) -> Iterator[Conflict]:
    """Codecs of other packages that cannot be loaded."""
    table = codec_table()
    for name in config.codecs:
        try:
            table[name]
        except KeyError:
            pass  # told already, or the link of a newer bridge names it
        except StartError as error:
            yield Conflict("codecs" if isinstance(config, BridgeConfig) else "codec", str(error))


def _shape(config: Config) -> Iterator[Conflict]:
    """A shape's file, read by what uses it."""
    if isinstance(config.shape, Path):
        from ptproxy.proxy.shape_files import load_shape

        try:
            load_shape(config.shape)
        except StartError as error:
            yield Conflict("shape", str(error).removeprefix("shape: "))


def _tls(config: Config) -> Iterator[Conflict]:
    """Certificates and keys, read by what uses them."""
    from ptproxy.tunnel.tls import ClientTrust, bridge_context, client_context, leaf_digest

    tls = config.tls
    try:
        if isinstance(config, ClientConfig):
            certificate, key = config.tls.client_certificate, config.tls.client_key
            if certificate is not None and key is not None and _readable(certificate, key):
                client_context(ClientTrust(config.pin, config.authorities, certificate, key))
            return
        tls = config.tls
        if config.mode == "standalone" and tls.certificate is not None and tls.private_key is not None:
            if _readable(tls.certificate, tls.private_key):
                bridge_context(tls.certificate, tls.private_key)
        elif tls.front_certificate is not None and _readable(tls.front_certificate):
            leaf_digest(tls.front_certificate)
    except StartError as error:
        yield Conflict(_tls_field(config), str(error).removeprefix("tls: "))


def _profile(config: Config) -> Iterator[Conflict]:
    """A browser's data of the user's own, read by what uses it."""
    if isinstance(config, ClientConfig) and config.tls.profile is not None:
        from ptproxy.tunnel.appearance import NAMES, own_browser

        if config.tls.fingerprint not in NAMES:
            yield Conflict("tls.profile", "only for a fingerprint of a browser", ("tls.fingerprint",))
            return
        try:
            own_browser(config.tls.fingerprint, config.tls.profile)
        except StartError as error:
            yield Conflict("tls.profile", str(error).removeprefix("tls.profile: "))


def _user(config: Config) -> Iterator[Conflict]:
    """Whom the bridge becomes, looked up by what does it."""
    if isinstance(config, BridgeConfig) and config.user is not None:
        from ptproxy.proxy.become import RunAs

        try:
            RunAs.of(config.user, config.group)
        except StartError as error:
            field, _, text = str(error).partition(": ")
            yield Conflict(field, text)


def _tls_field(config: Config) -> str:
    if isinstance(config, ClientConfig):
        return "tls.client_certificate"
    return "tls.certificate" if config.mode == "standalone" else "tls.front_certificate"


def _readable(*paths: Path) -> bool:
    """Whether the files are there; what is wrong otherwise is told by the configuration's own rules."""
    try:
        return all(path.read_bytes().strip() for path in paths)
    except OSError:
        return False


@click.command()
@click.argument("path", metavar="FILE", type=FILE)
def check(path: Path) -> None:
    """Check a configuration without running it.

    Everything that is wrong is told at once, each with its line and what would be right.
    """
    from ptproxy.proxy.become import RunAs

    config = load_checked(path)
    if isinstance(config, DirectoryConfig):
        if config.user is not None:
            RunAs.of(config.user, config.group)
        click.echo(f"{path} is fine: a directory node, reached at {config.address}")
        return
    listening = ", ".join(str(endpoint) for endpoint in config.listen)
    if isinstance(config, BridgeConfig):
        what = f"a {config.mode} bridge for {config.address}, listening on {listening}"
    else:
        link = config.bridge
        what = f"a client of the bridge at {link.host}:{link.port}, listening on {listening}"
    if isinstance(config, BridgeConfig) and (seen := list(site_problems(config))):
        for problem in seen:
            click.echo(f"{path}: {problem}", err=True)
        raise SystemExit(1)
    click.echo(f"{path} is fine: {what}; codecs {', '.join(config.codecs)}")


def site_problems(config: BridgeConfig) -> Iterator[str]:
    """What strangers could tell a bridge from the web server beside it by, asking that server."""
    from ptproxy.proxy.site_beside import SiteBeside, differences, site_of
    from ptproxy.tunnel.tls import bridge_context, leaf_digest

    tls, url = config.tls, site_of(config)
    if url is None or tls.certificate is None or tls.private_key is None:
        return
    try:
        manners = SiteBeside(url, config.server_name).learn()
    except StartError as error:
        yield str(error)
        return
    context = bridge_context(tls.certificate, tls.private_key)
    for difference in differences(context, manners, config.server_name, leaf_digest(tls.certificate)):
        yield f"site: {difference}"
