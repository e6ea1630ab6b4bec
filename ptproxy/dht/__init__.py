"""A Kademlia network of directory nodes: decisions, messages and their limits, without I/O."""
