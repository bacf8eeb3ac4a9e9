"""What the verbs that take --faces share: the embeddings of the source, and what was passed over."""

import sys
from typing import TYPE_CHECKING

from facekd.cli.output import print_table, print_text

if TYPE_CHECKING:
    from facekd.evaluation.labelled_faces import LabelledEmbeddings
    from facekd.runtimes.embedder import Embedder


def embed_faces(embedder: "Embedder", faces: str, *, batch_size: int) -> "LabelledEmbeddings":
    """Embeddings of the source that --faces names, with a bar on stderr."""
    from facekd.data.opening import open_source
    from facekd.evaluation.labelled_faces import embed_labelled

    source = open_source(faces, size=embedder.input.size)
    return embed_labelled(embedder, source, batch_size=batch_size, progress=sys.stderr.isatty())


def say_passed_over(found: "LabelledEmbeddings") -> None:
    """What was not embedded, counted and named."""
    if found.left_out:
        print_text(f"{found.left_out:,} further images of {found.faces} were not taken: more pairs than are needed")
    if found.unreadable:
        print_table("not read", ["image", "reason"], [[key, reason] for key, reason in found.unreadable.items()])
