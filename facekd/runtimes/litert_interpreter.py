"""LiteRT's interpreter, opened in one place: to run a file, to read its graph and to time its operators."""

from pathlib import Path
from typing import Any

from facekd.runtimes.base import Runtime

ERRORS = (ValueError, RuntimeError)
"""What LiteRT raises for a file or an input that it refuses."""


def open_interpreter(model: Path | bytes, *, threads: int = 1, plain: bool = False) -> Any:
    """LiteRT's own interpreter, its tensors allocated.

    Args:
        model: the file, or its content.
        threads: of XNNPACK.
        plain: by LiteRT's reference kernels, without XNNPACK, and every tensor kept.

    Raises:
        FacekdError: LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    source: dict[str, Any] = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    if plain:
        source |= {
            "experimental_preserve_all_tensors": True,
            "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        }
    try:
        interpreter = Interpreter(**source, num_threads=threads)
        interpreter.allocate_tensors()
    except ERRORS as error:
        where = Path("the model") if isinstance(model, bytes) else model
        raise Runtime.unreadable(where, "TFLite model", error) from error
    return interpreter
