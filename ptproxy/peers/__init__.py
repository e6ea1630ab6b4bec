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

Above them is a person's side (``MESSENGER.md``, ``STORE.md``):

- ``messenger``, ``peer``   the API: :class:`~ptproxy.peers.messenger.Messenger`,
  :class:`~ptproxy.peers.peer.Peer`
- ``messenger_events``      what it tells the program above it
- ``payload``, ``contact_invite``  what peers say to each other; what makes them contacts
- ``messenger_ledger``      its state, and the transactions in which that changes
- ``messenger_receiving``, ``messenger_sending``, ``messenger_identity``, ``messenger_invites``  what each
  of them does
- ``messenger_box``, ``messenger_courier``  our own mailbox; those of contacts
- ``messenger_passed_on``   invites to bridges that contacts pass on
- ``messenger_records``, ``messenger_finding``  finding a contact by the directory when its mailbox is gone
- ``messenger_moving``      our mailbox at another bridge, and the old one until it may go
- ``messenger_history``     how much of each conversation is kept
- ``messenger_copies``      the note there: another copy of this state, or an older one
- ``messenger_profile``, ``messenger_contact``, ``messenger_passes``, ``messenger_outbox``,
  ``messenger_line``        what is stored
- ``dialers``               under which key what is dialled
- ``store``                 the state on disk
- ``chat/``                 the reference program above all of it, in lines and on a screen; its own map

Streams end to end, on meetings at a rendezvous; what is sealed is ``e2e.stream``'s:

- ``peer_streams``          the API: :class:`~ptproxy.peers.peer_streams.PeerStreams`
- ``peer_stream``           one stream, as a transport
- ``peer_meetings``         where and when the two meet, and meet again
- ``file_transfer``         files on streams, the API; ``file_sending``, ``file_receiving``: each way,
  ``file_messages``: what is said, ``file_name``, ``file_pieces``

A node of the directory (``DIRECTORY.md``), which needs no tunnel: it is known to everybody.

- ``directory``             the node: :class:`~ptproxy.peers.directory.DirectoryNode`
- ``directory_driver``      runs a :class:`~ptproxy.dht.node.Node`, whichever way its messages travel
- ``directory_socket``, ``directory_clock``, ``directory_upkeep``, ``directory_beacon``, ``directory_store``
- ``directory_network``     what nodes agree on, and the texts that operators pass on

Finding bridges that have moved, and people, in the directory (``FIND.md``):

- ``find_directory``        the API: :class:`~ptproxy.peers.find_directory.Directory` reads and writes records
- ``find_asking``, ``find_way``, ``find_frames``, ``find_network``  sealed letters, and which way they go
- ``find_relay``, ``find_guard``  the bridge's part, and its guards' (``find_guard_socket``, ``_beacon``)
- ``find_operator``, ``find_publisher``  invites, and their records; ``find_person``: a person's
- ``find_client``, ``find_bridges``, ``find_list``, ``find_fetch``  where a client learns of bridges

A message's way: the sender's ratchet makes bytes, ``DeliveryToken.seal`` an
envelope of them, ``MailboxSender.deposit`` leaves it at the mailbox and returns
when it is on disk there; the owner's ``collect`` hands it to a callback, and
takes it from the mailbox when that returns.

Clients know only :class:`~ptproxy.tunnel.stream.Dialer`, services only
:class:`~ptproxy.tunnel.stream.Incoming`; ``cli`` hands them to the bridge. What
is sealed, and for whom, is ``e2e``'s. ``mailbox_frames``, ``_requests``,
``_answers``, ``_delivery``, ``_conversation``, ``_rates``, ``file_messages`` and
``file_name`` do no I/O.
"""
