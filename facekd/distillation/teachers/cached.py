"""A frozen teacher whose outputs were stored: it is not run again."""

from collections.abc import Mapping
from typing import Self

import torch

from facekd.common.errors import UsageError
from facekd.distillation.teacher_cache import TeacherCache
from facekd.distillation.teachers.base import Classes, ClassesNeeded, Teacher, TeacherOutput, TeacherPath
from facekd.schemas.teacher_cache import CachedTeacherFacts, TeacherCacheCard


class CachedTeacher(Teacher):
    """A teacher that recalls what it gave for a view of an image.

    Its network stays, for the neck that reads tokens, and for images that are in no cache.

    Args:
        network: the frozen teacher.
        card: of its stored outputs.

    Raises:
        UsageError: they are of another teacher.
    """

    def __init__(self, network: Teacher, card: TeacherCacheCard, *, place: object = "the cache") -> None:
        super().__init__()
        if (difference := _difference(card.teacher, facts_of(network, output=card.teacher.output))) is not None:
            raise UsageError(f"{place} is of another teacher: {difference}; store this one's outputs in another folder")
        self.network, self.card = network, card
        self.input, self.origin = network.input, network.origin
        self.embedding_width = network.embedding_width
        self.head_reads_tokens = network.head_reads_tokens
        if card.tokens != "none":
            self.token_width, self.grid = network.token_width, network.grid

    @classmethod
    def of(cls, network: Teacher, cache: TeacherCache) -> Self:
        """The teacher with what lies in a folder."""
        return cls(network, cache.card, place=f"the cache at {cache.folder}")

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Runs the network, on images whose outputs are not stored."""
        output: TeacherOutput = self.network(x)
        return output

    def recall(self, stored: Mapping[str, torch.Tensor]) -> TeacherOutput:
        """Stored rows of a batch -> its tokens, if they were kept, and raw embeddings, float32."""
        tokens = stored.get("tokens")
        if tokens is not None:
            tokens = tokens.float()
            if (scales := stored.get("token_scales")) is not None:
                tokens = tokens * scales.float().unsqueeze(2)
        return TeacherOutput(tokens, None, stored["embedding"].float())

    def example(self, count: int) -> dict[str, torch.Tensor]:
        """Rows as they are stored, of `count` images that nobody saw: to measure with."""
        made = {}
        for name, (shape, kind) in self.card.arrays().items():
            made[name] = torch.randn(count, *shape).to(torch.int8 if kind == "|i1" else torch.float16)
        return made

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """By the network's own neck."""
        return self.network.forward_head(tokens)

    def classes(self, found: TeacherPath) -> Classes | None:
        """The network's."""
        return self.network.classes(found)

    @property
    def needs_classes(self) -> ClassesNeeded | None:
        """The network's."""
        return self.network.needs_classes

    @property
    def uses_classes(self) -> bool:
        """The network's."""
        return self.network.uses_classes


def facts_of(teacher: Teacher, *, output: str | None) -> CachedTeacherFacts:
    """The teacher as a cache names it."""
    return CachedTeacherFacts(
        name=teacher.origin.name,
        sha256=teacher.origin.sha256,
        kind=type(teacher).__name__,
        input=teacher.input,
        output=output,
        embedding_width=teacher.embedding_width,
        token_width=teacher.token_width,
        grid=teacher.grid,
    )


def _difference(stored: CachedTeacherFacts, given: CachedTeacherFacts) -> str | None:
    """The first fact in which they differ, in words; what the teacher is called is none."""
    one, other = stored.model_dump(mode="json", exclude={"name"}), given.model_dump(mode="json", exclude={"name"})
    differing = [name for name in one if one[name] != other[name]]
    if not differing:
        return None
    return f"its {differing[0]} is {one[differing[0]]}, this one's is {other[differing[0]]}"
