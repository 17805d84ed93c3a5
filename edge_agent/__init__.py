"""The agent: senses, plans, guards, acts and links to its hub, on a person's own computer."""
