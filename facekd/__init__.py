"""facekd: distil a Transformer face-recognition teacher into a CNN student and ship it on a phone."""

__version__ = "0.1.0"
