"""A random walk: two people, each with a store, a way between them that loses, doubles and reorders, and
programs that die at any point.

What is shown: whatever is delivered is read exactly once by what is saved, whichever session it
came in; nothing else is ever read; no key encrypts two messages that left; and both end in one session.
"""

from collections import Counter
from dataclasses import dataclass
from random import Random
from unittest import mock

from conversation_pair import NOW, Person

from ptproxy.e2e.ratchet import ratchet as ratchet_module
from ptproxy.e2e.suite import Suite
from ptproxy.errors import E2EError

STEPS = 120
WINDOW = 8
"""Messages under way that one can overtake: farther is the ratchet's own walk."""
BEGINNINGS = 3
"""Sessions that the two begin: below the bound, so that none is given up with messages under way."""


class Fault(Exception):
    """Something happened that must not."""


@dataclass
class Message:
    number: int
    sender: int
    text: bytes
    data: bytes


class Walk:
    """One walk, all from its seed."""

    def __init__(self, seed):
        self.random = Random(f"correspondence {seed}")
        suite = self.random.choice((Suite.X3DH, Suite.PQXDH_768))
        self.people = [Person(f"{name} {seed}", suite, one_time=3) for name in ("alice", "bob")]
        self.now = NOW
        self.loss = self.random.choice((0.0, 0.1, 0.3))
        self.order = self.random.choice((1.0, 0.6, 0.2))
        self.mortality = self.random.choice((0.0, 0.05, 0.2))
        self.flying = []
        self.past = []
        self.read = Counter()
        self.keys = {}
        self.beginnings = 0
        self.figures = Counter(walks=1)
        self.sealed = []

    def run(self):
        seal = ratchet_module.seal

        def watched(cipher, message_key, *rest):
            self.sealed.append(message_key)
            return seal(cipher, message_key, *rest)

        with mock.patch.object(ratchet_module, "seal", watched):
            for _ in range(STEPS):
                self.now += self.random.random() * 600
                self.random.choices(
                    (self.send, self.deliver, self.again, self.forge, self.begin, self.restart),
                    (45, 40, 6, 5, 2, 4),
                )[0]()
            self.settle()
        return self.figures

    def killed(self, person):
        """Whether the program dies here: what it did since its last save never happened."""
        if self.random.random() >= self.mortality:
            return False
        person.restart()
        self.figures["killed"] += 1
        return True

    def save(self, person):
        person.save()
        if not person.saved():
            raise Fault(f"{person.name}: a change that was not named for saving")

    def begin(self):
        one, other = self.random.sample(self.people, 2)
        if self.beginnings == BEGINNINGS:
            return
        verified = other.fetched(self.now)
        one.to(other).begin(verified, self.now, one.rng)
        if self.killed(one):
            return
        self.save(one)
        self.beginnings += 1

    def send(self):
        place = self.random.randrange(2)
        one, other = self.people[place], self.people[1 - place]
        if one.to(other).session is None:
            if self.beginnings < BEGINNINGS:
                self.begin()
            return
        text = self.random.randbytes(self.random.randrange(200))
        self.sealed.clear()
        data = one.to(other).send(text, self.now, one.rng)
        if self.killed(one):
            return
        self.save(one)
        message = Message(len(self.past), place, text, data)
        (key,) = self.sealed
        if self.keys.setdefault(key, message.number) != message.number:
            raise Fault("one key for two messages that left")
        self.past.append(message)
        self.figures["sent"] += 1
        if self.random.random() >= self.loss:
            self.flying.append(message)

    def deliver(self):
        if not self.flying:
            return
        late = self.flying[0].number < len(self.past) - WINDOW
        first = late or self.random.random() < self.order
        place = 0 if first else self.random.randrange(min(WINDOW, len(self.flying)))
        message = self.flying[place]
        person = self.people[1 - message.sender]
        try:
            received = person.mine.receive(message.data, self.now, person.rng)
        except E2EError as error:
            if not self.read[message.number]:
                raise Fault(f"{message.number} was not read: {error!r}") from error
            raise Fault(f"{message.number} came twice") from error
        if received.body != message.text:
            raise Fault(f"{message.number} reads as something else")
        if self.killed(person):
            return
        self.save(person)
        del self.flying[place]
        self.read[message.number] += 1
        self.figures["read"] += 1

    def again(self):
        """One that was read comes once more."""
        known = [message for message in self.past[-40:] if self.read[message.number]]
        if known:
            message = self.random.choice(known)
            self.refused(self.people[1 - message.sender], message.data)
            self.figures["repeated"] += 1

    def forge(self):
        """Changed, cut, reflected, or one message behind another's opening."""
        if not self.past:
            return
        message, other = self.random.choice(self.past), self.random.choice(self.past)
        person, data = self.people[1 - message.sender], bytearray(message.data)
        kind = self.random.randrange(4)
        if kind == 0:
            behind = max(0, len(data) - 384)
            data[self.random.randrange(behind, len(data))] ^= 1 << self.random.randrange(8)
        elif kind == 1:
            del data[self.random.randrange(len(data)) :]
        elif kind == 2:
            person = self.people[message.sender]
        else:
            data = data[: len(data) // 2] + other.data[len(data) // 2 :]
            if bytes(data) in (message.data, other.data):
                return
        self.refused(person, bytes(data))
        self.figures["forged"] += 1

    def refused(self, person, data):
        before = person.mine.serialize()
        try:
            person.mine.receive(data, self.now, person.rng)
        except E2EError:
            if person.mine.serialize() != before:
                raise Fault("refused, and something changed") from None
            return
        raise Fault("read what should be refused")

    def restart(self):
        self.random.choice(self.people).restart()
        self.figures["restarts"] += 1

    def settle(self):
        """Everything under way arrives, then a line each way: one session, the same on both sides."""
        self.mortality = self.loss = 0
        while self.flying:
            self.deliver()
        alice, bob = self.people
        if alice.to(bob).session is None and bob.to(alice).session is None:
            return
        for _ in range(3):
            for one, other in ((alice, bob), (bob, alice)):
                if one.to(other).session is None:
                    continue
                if other.read(one.send(other, b"settled", self.now), self.now) != b"settled":
                    raise Fault("a last line was not read")
        if alice.to(bob).session.key != bob.to(alice).session.key:
            raise Fault("each sends in another session")
        if alice.to(bob).session.ratchet.turn != bob.to(alice).session.ratchet.turn:
            raise Fault("two who have read everything differ")
        self.figures["sessions"] += len(alice.to(bob).sessions)
