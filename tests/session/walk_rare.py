"""Steps that bring about in one go what the random walk's other steps do once in thousands of walks.

Each is nothing but a sequence of those; whether the sessions bear it is judged as ever.
"""

from __future__ import annotations

from walk_carriers import CARRIERS
from walk_oracle import End, Side
from walk_streams import Streams


class Rare(Streams):
    """Every method of no arguments that the profiles name is a step of the walk."""

    def connect(self, count: int) -> list[int]:
        """So many carriers that work, if the client may dial them; those that do."""
        numbers = self.working()
        while len(numbers) < count and len(self.client.session.carriers) < 2 * CARRIERS:
            self.arrive(self.attach_one(self.dial_one()))
            if len(self.working()) == len(numbers):
                break
            numbers = self.working()
        return numbers

    def hand_over(self, side: Side, number: int | None) -> None:
        """All that one side has to say on a carrier arrives; nothing comes back."""
        pipe, up = self.pipes.get(number or 0), side is self.client
        if pipe is not None:
            self.drain_one(side, pipe.number, 1000)
            self.deliver_one(pipe, up, len((pipe.up if up else pipe.down).bytes))

    def living(self) -> tuple[End, End, int] | None:
        """A stream that carries both ways, whose ends have read everything: an old or a new one."""
        numbers = self.connect(2)
        for end in list(self.client.ends.values()):
            number, peer = end.stream.carrier, end.peer
            if number not in numbers or end.stream.is_association or not end.accepted:
                continue
            if peer is not None and not peer.over and peer.side is self.bridge:
                for one in (end, peer):
                    self.consume_one(one, one.delivered - one.consumed)
                self.exchange_one(self.pipes[number])
                return end, peer, number
        return self.fresh()

    def fresh(self) -> tuple[End, End, int] | None:
        """A new stream of the client's that the bridge has accepted."""
        end = self.open_one(self.client, 0) if len(self.client.ends) < 6 else None
        number = end.stream.carrier if end is not None else None
        if end is None or number not in self.working():
            return None
        self.hand_over(self.client, number)
        peer = end.peer
        if peer is None:
            return None
        self.accept_one(peer)
        self.exchange_one(self.pipes[number])
        return end, peer, number

    def early_reset(self) -> None:
        """A client opens a stream, moves it and gives it up: its RESET arrives before its OPEN."""
        numbers = self.connect(2)
        if len(numbers) < 2 or len(self.client.ends) >= 6:
            return
        end = self.open_one(self.client, 2)
        if end is None or end.stream.carrier is None:
            return
        self.drain_one(self.client, end.stream.carrier, 1000)
        number = next(number for number in numbers if number != end.stream.carrier)
        self.move_one(end, number, False)
        self.reset_one(end)
        self.exchange_one(self.pipes[number])

    def crossing(self) -> None:
        """Both ends end, and one gives up before the last acknowledgement has left the other."""
        found = self.living()
        if found is None:
            return
        number = found[2]
        late, last = found[:2] if self.draw() < 0.5 else found[1::-1]
        self.eof_one(last)
        self.hand_over(last.side, number)
        self.hand_over(late.side, number)
        self.eof_one(late)
        self.hand_over(late.side, number)
        if not late.over:
            self.reset_one(late)
            self.hand_over(late.side, number)

    def late_move(self) -> None:
        """Both ends end, and the client moves the stream before the last acknowledgement arrives."""
        found = self.living()
        others = self.working()
        if found is None or len(others) < 2:
            return
        end, peer, number = found
        self.eof_one(peer)
        self.hand_over(self.bridge, number)
        self.eof_one(end)
        self.hand_over(self.client, number)
        if not end.over and not end.stream.finished:
            self.move_one(end, next(other for other in others if other != number), False)
        self.hand_over(self.bridge, number)

    def stale(self) -> None:
        """R7: a WINDOW under way on one carrier is overtaken by a BIND with a higher limit on another."""
        found = self.living()
        others = self.working()
        if found is None or len(others) < 2:
            return
        end, peer, number = found
        self.write_one(peer, 3)
        self.hand_over(self.bridge, number)
        self.drain_one(self.client, number, 1000)
        pipe = self.pipes.get(number)
        if end.over or pipe is None:
            return
        under_way = len(pipe.up.bytes)
        self.consume_one(end, end.delivered - end.consumed)
        other = next(other for other in others if other != number)
        self.move_one(end, other, False)
        self.hand_over(self.client, other)
        self.deliver_one(pipe, True, under_way)

    def second_move(self) -> None:
        """R15: a stream is moved twice with bytes under way on its first carrier, which then dies."""
        numbers = self.connect(3)
        found = self.living()
        if found is None or len(numbers) < 3:
            return
        end, peer, number = found
        for one in (end, peer) if self.draw() < 0.5 else (peer,):
            self.write_one(one, 3)
            self.drain_one(one.side, number, 1000)
        for other in [other for other in numbers if other != number][:2]:
            if not end.over and other in self.working():
                self.move_one(end, other, True)
                self.hand_over(self.client, other)
        if number in self.pipes:
            self.sever(number)

    def unheard(self) -> None:
        """R6, R7: no acknowledgement of an OPEN arrives, nor the WINDOW that raises the limit."""
        if len(self.connect(2)) < 2 or len(self.client.ends) >= 6:
            return
        end = self.open_one(self.client, 0)
        if end is None or end.stream.carrier not in self.working():
            return
        self.hand_over(self.client, end.stream.carrier)
        peer = end.peer
        if peer is None:
            return
        self.accept_one(peer)
        peer.polite = True
        for _ in range(3):
            self.write_one(peer, 12)
        self.sever(end.stream.carrier)
        number = end.stream.carrier
        if number not in self.working() or end.over or peer.over:
            return
        for side in (self.client, self.bridge, self.client):
            self.hand_over(side, number)
        if not (end.over or end.stream.open_acknowledged):
            self.consume_one(end, end.delivered - end.consumed)
            self.drain_one(self.client, number, 1000)
            self.sever(number)

    def late_open(self) -> None:
        """R14, R20: an OPEN is acknowledged when the safety net has moved it on and it was not said again."""
        if self.strict or len(self.connect(2)) < 2 or len(self.bridge.ends) >= 6:
            return
        end = self.open_one(self.bridge, 1)
        number = end.stream.carrier if end is not None else None
        if number not in self.working():
            return
        self.hand_over(self.bridge, number)
        self.now += self.limits.safety_net
        self.wake(self.bridge)
        self.wake(self.client)
        self.hand_over(self.client, number)

    def sever(self, number: int) -> None:
        """A carrier is cut, nothing that is under way arrives, and both sides notice."""
        pipe = self.pipes[number]
        if pipe.open:
            self.cut_one(pipe)
        for way, side in ((pipe.up, self.client), (pipe.down, self.bridge)):
            way.clear()
            self.lose(pipe, side)
