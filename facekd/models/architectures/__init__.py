"""The networks: one file each, whose functions register themselves as models."""
