"""One browser as data: what its requests say, field by field, and its HTTP/2 habits.

The data files stand in ``codec/browsers/`` and are made by ``scripts/capture``
from what an installed browser sent; whoever reads one (this package opens no
files) hands the decoded mapping to :meth:`Browser.parse`. Its parts::

    browser, version, recorded, platform      where it comes from
    http2         habits of a connection (http2.habits)
    loading       habits of loading a page (page.habits)
    values        what varies by build, system or user, by name: brands, user_agent, ...
    requests      by kind: urgency, said, incremental, fields
    websocket_upgrade   header lines of the HTTP/1.1 upgrade, in order and case

A field's value may name variables in braces. Those that the caller does not
give (no cookie, no validator) leave their field out; ``{cookie}`` stands for as
many fields as there are cookies, in crumbs. ``{priority}`` is made from urgency
and incremental as RFC 9218 writes it, and left out when both are the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptproxy.codec.http2.habits import H2Habits
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.page.habits import LoadingHabits
from ptproxy.errors import LocalProtocolError

DEFAULT_URGENCY = 3
"""RFC 9218 section 4.1: not written."""

_VARIABLE = re.compile(r"\{([a-z_]+)\}")
_FIELD = re.compile(r":?[!#$%&'*+\-.^_`|~0-9a-z]+")


@dataclass(frozen=True, slots=True)
class RequestKind:
    """What all requests of one kind (a script, a picture) have in common."""

    urgency: int
    """On the browser's own scale, 0 the most urgent: an index into ``H2Habits.weights``."""
    said: int
    """Urgency in the ``priority`` field, on RFC 9218's scale: Chromium's is the same, Firefox's not."""
    incremental: bool
    fields: tuple[Field, ...]
    """Header list in order, values with variables."""


@dataclass(frozen=True, slots=True)
class Browser:
    """One version of one browser on one system."""

    name: str
    version: str
    recorded: str
    """Day, ISO 8601."""
    platform: str
    http2: H2Habits
    loading: LoadingHabits
    values: Mapping[str, str]
    requests: Mapping[str, RequestKind]
    upgrade: tuple[Field, ...]
    """Header lines of a WebSocket's HTTP/1.1 upgrade, values with variables."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Browser:
        """From a decoded data file; :class:`LocalProtocolError` where it is wrong."""
        try:
            requests = {
                str(kind): RequestKind(
                    int(one["urgency"]),
                    int(one["said"]),
                    bool(one["incremental"]),
                    tuple((str(name), str(value)) for name, value in one["fields"]),
                )
                for kind, one in data["requests"].items()
            }
            browser = cls(
                str(data["browser"]),
                str(data["version"]),
                str(data["recorded"]),
                str(data["platform"]),
                H2Habits.parse(data["http2"]),
                LoadingHabits.parse(data["loading"]),
                {str(name): str(value) for name, value in data["values"].items()},
                requests,
                tuple((str(name), str(value)) for name, value in data["websocket_upgrade"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LocalProtocolError(f"browser data: malformed: {error!r}") from None
        least = len(browser.http2.weights)
        if not all(0 <= role.urgency < least for role in browser.loading.roles.values()):
            raise LocalProtocolError("browser data: loading has an urgency out of range")
        for kind, request in requests.items():
            bad = [name for name, _ in request.fields if not _FIELD.fullmatch(name)]
            if bad or not 0 <= request.urgency < len(browser.http2.weights):
                raise LocalProtocolError(f"browser data: request kind {kind} is malformed")
        return browser

    def with_values(self, **values: str) -> Browser:
        """The same browser with other values; ``system`` is filled into the User-Agent."""
        merged = {**self.values, **values}
        merged["user_agent"] = merged["user_agent"].replace("{system}", merged.get("system", ""))
        return replace(self, values=merged)

    def fields(
        self,
        kind: str,
        variables: Mapping[str, str],
        cookies: tuple[str, ...] = (),
        said: int | None = None,
    ) -> list[Field]:
        """The header list of a request.

        ``variables`` must hold ``host`` and ``path``; a page's requests also
        ``referer``, modes that check the origin ``origin``, a POST ``length`` and
        ``content_type``, a revalidation ``etag`` or ``last_modified``.
        ``said`` replaces the kind's own urgency in the priority field.
        """
        request = self.requests[kind]
        known = {**self.values, **variables}
        known["priority"] = priority_field(request.said if said is None else said, request.incremental)
        fields: list[Field] = []
        for name, template in request.fields:
            if name == "cookie":
                fields += [(name, crumb) for crumb in cookies]
            else:
                fields += _filled(name, template, known)
        return fields

    def upgrade_lines(self, variables: Mapping[str, str]) -> list[Field]:
        """The header lines of a WebSocket's upgrade; ``variables``: ``host``, ``key``, ``cookie``."""
        known = {**self.values, **variables}
        return [line for name, template in self.upgrade for line in _filled(name, template, known)]


def _filled(name: str, template: str, known: Mapping[str, str]) -> list[Field]:
    """The field with its variables filled in; none where one of them is not given."""
    if not all(known.get(variable) for variable in _VARIABLE.findall(template)):
        return []
    return [(name, _VARIABLE.sub(lambda match: known[match[1]], template))]


def priority_field(urgency: int, incremental: bool) -> str:
    """The value of the ``priority`` field (RFC 9218 section 4), "" where it says nothing."""
    parts = [f"u={urgency}"] if urgency != DEFAULT_URGENCY else []
    return ", ".join([*parts, "i"] if incremental else parts)
