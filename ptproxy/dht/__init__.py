"""A directory in which bridges can be published and no crawler finds one: Kademlia, records, admission.

Everything here takes values and bytes and returns them; nothing opens a file, a socket
or a clock. ``PROTOCOL.md`` beside this file has the network, ``RECORDS.md`` what lies in it.

Directory nodes are servers outside of the censored area. Bridges and clients are in no table.

Read in this order:

- ``identifier``, ``contact``  places and distances; how a node is reached, signed by itself
- ``table``, ``bucket``        which nodes a node knows; ``probation``: whom it hands on
- ``lookup``, ``candidate``    finding the closest nodes or a record, one answer at a time
- ``density``, ``diversity``   how many nodes may stand at one place, or in one network
- ``round_trips``              how long to wait
- ``messages``, ``rpc``        what is said, and which answers count
- ``responder``                what a node answers; ``datagrams``, ``sealing``: how that travels
- ``node``                     all of these put together: a directory node, or a client
- ``first_nodes``              where to begin: a signed list

- ``vetting``, ``admission``, ``work``   who may be a node
- ``record``, ``record_secret``, ``bridge_record``, ``person_record``   what a record is and holds
- ``invite``, ``issuing``, ``publication``, ``storage``, ``write_token``, ``quota``, ``beacon``

Bytes that do not verify raise :class:`~ptproxy.errors.DhtError`, and nothing has changed.
"""
