"""Why a runtime refused something, in its own words but for what only its authors read."""

import re

from facekd.common.errors import one_line

_LIMIT = 400

_SOURCE = r"(?:/?[\w.+-]+/)+[\w.+-]+\.(?:cc|cpp|cxx|c|cu|h|hpp|mm)(?::\d+)?"
# The return type and the qualified name of a C++ function, with its arguments: one level of brackets within.
_SIGNATURE = r"(?:[\w:<>,&*~ ]+[ &*])?[\w:<>~]+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[[^\]]*\])?"

_NOISE = (
    (re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : "), ""),
    (re.compile(r"Load model from .*? failed: ?"), ""),
    (
        re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: "),
        r"\1 \2: ",
    ),
    (re.compile(rf"{_SOURCE}:? {_SIGNATURE} (?:.{{1,200}}? was false\. (?=\S))?"), ""),
    (re.compile(rf"{_SOURCE}:? ?"), ""),
    (re.compile(r" +:"), ":"),
)


def reason(error: BaseException) -> str:
    """A runtime's message on one line without source locations, C++ signatures and the path that ours begins with."""
    text = one_line(error, limit=None)
    for pattern, shorter in _NOISE:
        text = pattern.sub(shorter, text)
    return text.strip()[:_LIMIT] or type(error).__name__
