"""A bridge's exit, for the accounts among its clients: who may nothing, less than others, or slowly.

Nothing of it costs a client without an account anything but a look into a dictionary.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from ptproxy.auth.account import Account, Lapse
from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.proxy.account_policy import AccountTargets, NarrowedDialer
from ptproxy.proxy.account_throttle import Allowance, ThrottledIncoming
from ptproxy.proxy.accounts import Accounts
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.policy import EgressPolicy, RuleError
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.bridge_tunnel import BridgeTunnel
from ptproxy.tunnel.recognise import ACCOUNT_SERVICE, SHAPE_SERVICE
from ptproxy.tunnel.relay import Ended
from ptproxy.tunnel.stream import Dialer, Incoming

ALWAYS: Final = (ACCOUNT_SERVICE, SHAPE_SERVICE)
"""Services that tell a client about itself and about the bridge: no permission is needed for them."""
REASONS: Final = {Lapse.EXPIRED: Reason.NOT_PERMITTED, Lapse.QUOTA: Reason.LIMIT}

log = get_logger(__name__)


class AccountExit:
    """An :class:`~ptproxy.tunnel.stream.Exit` before a bridge's own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exit_: BridgeExit,
        accounts: Accounts,
        sessions: Callable[[], Iterable[BridgeTunnel]],
    ) -> None:
        """``sessions`` are the bridge's, as they are when it is called."""
        self._loop = loop
        self._exit = exit_
        self._accounts = accounts
        accounts.tell_lapsed()
        self._sessions = sessions
        self._allowances: dict[str, tuple[Allowance, Allowance]] = {}

    def stream_opened(self, incoming: Incoming) -> None:
        """A client opened a stream; see :class:`~ptproxy.tunnel.stream.Exit`."""
        name = incoming.target.service_name
        if name in ALWAYS:
            self._exit.stream_opened(incoming)
            return
        access = self._accounts.list
        lapse = access.lapse_of(incoming.peer, time.time())
        if lapse is not None:
            incoming.refuse(REASONS[lapse])
            return
        account = access.accounts.get(incoming.peer)
        if account is None:
            self._exit.stream_opened(incoming)
        elif name is not None and account.services is not None and name not in account.services:
            incoming.refuse(Reason.NOT_PERMITTED)
        else:
            self._exit.stream_opened(self._throttled(incoming, account))

    def take_over(self, incoming: Incoming, sock: socket.socket, ended: Ended) -> None:
        """As :meth:`BridgeExit.take_over`, at the account's rate."""
        account = self._accounts.list.accounts.get(incoming.peer)
        self._exit.take_over(incoming if account is None else self._throttled(incoming, account), sock, ended)

    def look(self) -> None:
        """The list or what was used has changed: streams end that may not go on, rates are those of now."""
        access, now = self._accounts.list, time.time()
        for tunnel in list(self._sessions()):
            lapse = self._accounts.lapse(tunnel.public, now)
            if lapse is not None:
                ended = end_streams(tunnel, REASONS[lapse])
                if ended:
                    log.info("streams ended", identity=tunnel.peer, why=lapse.value, streams=ended)
        for name, (up, down) in list(self._allowances.items()):
            account = access.accounts.get(name)
            if account is None or account.rate != up.rate:
                del self._allowances[name]  # streams that are open keep what they had, until there is none
                if account is None or account.rate is None:
                    up.close()
                    down.close()

    def close(self) -> None:
        """Nobody is held any more, and no timer is left."""
        for up, down in self._allowances.values():
            up.close()
            down.close()
        self._allowances.clear()

    def _throttled(self, incoming: Incoming, account: Account) -> Incoming:
        if account.rate is None:
            return incoming
        allowances = self._allowances.get(account.name)
        if allowances is None or allowances[0].rate != account.rate:
            allowances = (Allowance(self._loop, account.rate), Allowance(self._loop, account.rate))
            self._allowances[account.name] = allowances
        return ThrottledIncoming(incoming, *allowances)


class AccountDialers:
    """The dialer under whose rules a client's targets are dialled."""

    def __init__(self, dialer: EgressDialer, accounts: Accounts) -> None:
        self._dialer = dialer
        self._accounts = accounts
        self._narrowed: dict[str, tuple[tuple[tuple[str, ...], EgressPolicy], Dialer]] = {}

    def __call__(self, peer: str) -> Dialer:
        """The bridge's own for whoever has no rules."""
        account = self._accounts.list.accounts.get(peer)
        if account is None or not account.targets:
            return self._dialer
        known = self._narrowed.get(peer)
        rules = account.targets, self._dialer.policy  # the bridge's own are others after a reload
        if known is None or known[0] != rules:
            try:
                targets = AccountTargets(account.targets)
            except RuleError as error:
                log.error("an account's targets cannot be read: it reaches nothing", why=str(error))
                targets = AccountTargets(())
            known = self._narrowed[peer] = (rules, NarrowedDialer(self._dialer, targets))
        return known[1]


def end_streams(tunnel: BridgeTunnel, reason: Reason) -> int:
    """End a session's streams but those of the services in :data:`ALWAYS`; how many."""
    ended = 0
    now = tunnel.now()
    for stream in list(tunnel.session.streams.values()):
        owner = stream.owner
        try:
            name = Target.parse(stream.target).service_name
        except TargetError:
            name = None
        if owner is not None and name not in ALWAYS:
            stream.owner = None
            stream.reset(reason, now)
            owner.lost(reason)
            ended += 1
    if ended:
        tunnel.schedule()
    return ended
