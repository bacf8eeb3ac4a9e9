"""facekd: distil a Transformer face-recognition teacher into a CNN student and ship it on a phone."""

import os

from facekd.common.versions import __version__ as __version__

# ONNX Runtime 1.29 and later report usage unless this is set before the library loads; all that loads it is below here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
