"""Two ends of a stream with a conversation between them, for tests that say what happens step by step."""

from random import Random

from conversation_pair import NOW, met

from ptproxy.e2e.stream import DataReceived, EofReceived, Role, SealedStream, Seed, TurnSecrets
from ptproxy.e2e.suite import Suite

SEED = Seed(bytes(range(16)), bytes(range(32)))


class Pair:
    """Alice opens, Bob accepts."""

    def __init__(self):
        self.people = met(suite=Suite.X3DH)
        self.rng = Random("stream pair").randbytes
        self.now = float(NOW)
        self.opener = SealedStream(SEED, Role.OPENER)
        self.acceptor = SealedStream(SEED, Role.ACCEPTOR)
        self.log = {Role.OPENER: [], Role.ACCEPTOR: []}

    def session(self, role):
        alice, bob = self.people
        return alice.to(bob).session if role is Role.OPENER else bob.to(alice).session

    def turns(self, role):
        return lambda: TurnSecrets.of(self.session(role), SEED.stream)

    def chat(self, times=1):
        """Lines there and back."""
        alice, bob = self.people
        for _ in range(times):
            bob.read(alice.send(bob, b"line"))
            alice.read(bob.send(alice, b"line"))

    def meet(self):
        for stream in (self.opener, self.acceptor):
            stream.begin_meeting(self.turns(stream.role), self.now, self.rng)

    def part(self):
        for stream in (self.opener, self.acceptor):
            stream.end_meeting()

    def other(self, stream):
        return self.acceptor if stream is self.opener else self.opener

    def said(self, stream):
        """All that ``stream`` has to say."""
        out = b""
        while batch := stream.data_to_send(self.now):
            out += b"".join(batch)
        self.log[stream.role].append(out)
        return out

    def pass_on(self):
        """Everything to the other side, until both are silent; the events of both."""
        events = {Role.OPENER: [], Role.ACCEPTOR: []}
        while True:
            quiet = True
            for stream in (self.opener, self.acceptor):
                data = self.said(stream)
                if data:
                    quiet = False
                    events[stream.role.other] += self.other(stream).receive_data(data, self.now)
            if quiet:
                return events


def text(events):
    """The bytes among events."""
    return b"".join(bytes(event.data) for event in events if isinstance(event, DataReceived))


def ended(events):
    return any(isinstance(event, EofReceived) for event in events)
