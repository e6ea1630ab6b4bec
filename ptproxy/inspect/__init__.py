"""A censor's view of one's own bridge and client."""
