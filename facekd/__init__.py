"""facekd: distil a Transformer face-recognition teacher into a CNN student and ship it on a phone."""

import os

# ONNX Runtime 1.29 and later report usage unless this is set before the library loads; all that loads it is below here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
