"""The commands of a hub, a file for each group of them. ``server.__main__`` puts them together."""
