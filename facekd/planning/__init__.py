"""What a training on many devices needs, before it is started."""
