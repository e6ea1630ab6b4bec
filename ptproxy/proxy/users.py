"""Who may use a client's local port."""

from __future__ import annotations

from ptproxy.config.keyfile import read_password
from ptproxy.config.model import ClientConfig
from ptproxy.errors import StartError
from ptproxy.front import Users


def make_users(config: ClientConfig) -> Users | None:
    """Who may use the local port, None for anybody; raises StartError."""
    front = config.front
    if front.user is None:
        return None
    if front.password_file is None:
        raise StartError("front: a user needs front.password_file")
    try:
        return Users({front.user: read_password(front.password_file)})
    except ValueError as error:
        raise StartError(f"front: {error}") from None
