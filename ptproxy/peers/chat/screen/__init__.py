"""The chat's full screen, in textual; imported only where it is shown (the extra ``ptproxy[chat]``).

- ``app``           the screen as a whole: what keys and the messenger's events do to it
- ``room``          the conversation that is open, with all that belongs to it
- ``contact_list``  who there is, how they stand, what is unread
- ``pending``       what has happened and is not drawn yet: bounded
- ``conversation``  lines and how far they have come, older and newer ones as one scrolls
- ``decision``      what the person has to decide: a changed identity, a stranger
- ``file_view``     a file, offered or on its way
- ``compose``       where one writes
- ``dialogs``       safety numbers, invites, help; ``own_dialog``: ourselves
- ``drawn``         what all of them draw alike

Everything that somebody else wrote is drawn as :class:`~textual.content.Content` made of text that
:mod:`~ptproxy.peers.chat.shown` made harmless: never as a ``str``, which textual reads as markup.
"""
