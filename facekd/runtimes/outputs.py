"""Which output of a model is the embedding, where several could be."""

import re
from collections.abc import Sequence
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.runtimes.base import Tensor
from facekd.runtimes.graph_ends import GraphEnds

_PROBABILITIES = ("softmax", "logsoftmax", "log_softmax", "sigmoid", "logistic", "hardsigmoid", "argmax", "arg_max")
_EMBEDDING = re.compile(r"embed|feat|fc1$|(^|[_/.])emb|identity_vector", re.IGNORECASE)
_CLASSES = re.compile(
    r"logit|prob|cls|class|softmax|score|label|age|gender|sex|landmark|bbox|box|quality", re.IGNORECASE
)


def choose_output(path: Path, outputs: Sequence[Tensor], ends: GraphEnds) -> tuple[Tensor, str | None]:
    """(the embedding, what to say of it where there was a choice).

    facekd's choice: never what a Softmax or Sigmoid computes; then a name that says embedding or feature before one
    that does not, and that before one that says classes; then what no other output leads to; then the first.

    Args:
        path: for messages.
        outputs: all of the model.
        ends: what the file says of the operators that compute them; may be empty.

    Raises:
        UsageError: none can be an embedding, or all that could are probabilities.
    """
    wide = [tensor for tensor in outputs if tensor.is_embedding]
    possible = embedding_outputs(outputs, ends)
    listed = ", ".join(_described(tensor, ends) for tensor in outputs)
    if not wide:
        raise UsageError(f"{path} has outputs {listed}: none is an embedding [b, e]")
    if not possible:
        raise UsageError(
            f"{path} has outputs {listed}: probabilities of classes are no embedding; export the layer before the "
            "classifier, or name one with --output if it is meant"
        )
    names = {tensor.name for tensor in possible}

    def rank(tensor: Tensor) -> tuple[int, bool]:
        named = 0 if _EMBEDDING.search(tensor.name) else 2 if _CLASSES.search(tensor.name) else 1
        return named, bool(names & ends.before.get(tensor.name, frozenset()))

    chosen = min(possible, key=rank)
    if len(wide) == 1:
        return chosen, None
    return chosen, f"{path} has outputs {listed}: {shown(chosen.name)} is taken; --output NAME takes another"


def embedding_outputs(outputs: Sequence[Tensor], ends: GraphEnds) -> list[Tensor]:
    """Those that can be an embedding [b, e] and are not what a Softmax or Sigmoid computes."""
    return [t for t in outputs if t.is_embedding and ends.operators.get(t.name, "").lower() not in _PROBABILITIES]


def _described(tensor: Tensor, ends: GraphEnds) -> str:
    operator = ends.operators.get(tensor.name)
    by = f" of a {operator}" if operator and operator.lower() in _PROBABILITIES else ""
    shape = ", ".join("b" if size is None else str(size) for size in tensor.shape)
    return f"{shown(tensor.name)} [{shape}]{by}"
