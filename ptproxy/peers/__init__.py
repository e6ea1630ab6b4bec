"""What runs above the tunnel between people: the services of a bridge that peers meet at.

Two services, offered by a bridge that is configured so (``mailbox:`` and
``rendezvous:``), on ordinary streams of its clients. ``PROTOCOL.md`` beside this
file says byte by byte what is spoken, and what a mailbox sees and does not.

The mailbox keeps sealed messages for who is away. Read in this order:

- ``mailbox_frames``, ``mailbox_requests``, ``mailbox_answers``  what is said, as values
- ``mailbox_delivery``      what a contact is given: passes, tokens, envelopes of four sizes
- ``mailbox_conversation``  who says what when: both ends of a stream, without I/O
- ``mailbox_client``        the API: :class:`~ptproxy.peers.mailbox_client.MailboxSender`,
  :class:`~ptproxy.peers.mailbox_client.MailboxOwner`, :func:`~ptproxy.peers.mailbox_client.collect`

and at the bridge:

- ``mailbox_service``       the service: its streams, accounts, owners who listen
- ``mailbox_stream``        one stream: requests one after another, mail for who listens
- ``mailbox_rates``, ``seats``  how often an account may do what; how many streams it may have
- ``mailbox_schema``, ``mailbox_store``  what is kept, in SQLite
- ``mailbox_thread``        the store's thread: many requests, one sync of the disk

The rendezvous makes one stream of two: ``rendezvous`` (wire format and
:func:`~ptproxy.peers.rendezvous.meet`) and ``rendezvous_service``.

A message's way: the sender's ratchet makes bytes, ``DeliveryToken.seal`` an
envelope of them, ``MailboxSender.deposit`` leaves it at the mailbox and returns
when it is on disk there; the owner's ``collect`` hands it to a callback, and
takes it from the mailbox when that returns.

Clients know only :class:`~ptproxy.tunnel.stream.Dialer`, services only
:class:`~ptproxy.tunnel.stream.Incoming`; ``cli`` hands them to the bridge. What
is sealed, and for whom, is ``e2e``'s. ``mailbox_frames``, ``_requests``,
``_answers``, ``_delivery``, ``_conversation`` and ``_rates`` do no I/O.
"""
