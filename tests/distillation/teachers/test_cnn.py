"""A CNN as the teacher: its map as tokens, its own head, frozen; and what it cannot do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.build import build_task
from facekd.distillation.teachers.cnn import CnnTeacher
from facekd.models.bundle import load_bundle
from facekd.models.registry import create_model

URFM: dict[str, Any] = {"local_centres": 49, "width": 16, "heads": 2, "read_out": "neck", "relay_weight": 1}
ALL: tuple[dict[str, Any], ...] = ({"urfm": URFM}, {"fitnet": {}}, {"ofa": {}}, {"kd": {}}, {"embedding": {}})


def test_it_is_the_bundles_network_and_its_tokens_are_the_map(tiny: Any, cnn_teacher: Path) -> None:
    given = build_task(tiny.recipe(cnn_teacher, *ALL), tiny.source).train().teacher
    plain = load_bundle(cnn_teacher).model
    x = torch.randn(3, 3, 112, 112)
    assert isinstance(given, CnnTeacher)
    with torch.no_grad():
        seen, features = given(x), plain.forward_features(x)  # type: ignore[operator]
        torch.testing.assert_close(seen.embedding, plain(x), rtol=0, atol=0)
        assert seen.extra_tokens is None and seen.tokens.shape == (3, 49, 24)
        for row, column in ((0, 0), (2, 5), (6, 6)):
            assert torch.equal(seen.tokens[:, 7 * row + column], features[:, :, row, column])
        torch.testing.assert_close(given.forward_head(seen.tokens), plain(x))


def test_every_term_learns_from_it_and_it_never_moves(tiny: Any, cnn_teacher: Path) -> None:
    head = {"name": "cosface", "init": "teacher"}
    task = build_task(tiny.recipe(cnn_teacher, *ALL, head=head), tiny.source)
    frozen = {key: value.clone() for key, value in task.state_dict().items() if key.startswith("teacher")}
    assert any("running_mean" in key for key in frozen)
    tiny.train(task)
    assert {part.split(".")[0] for part in task(*tiny.batch()).parts} == {
        *("identity", "urfm", "fitnet", "ofa", "kd", "embedding")
    }
    state = task.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in frozen.items())
    assert not any(key.startswith("teacher") for key in task.trainable_state_dict())
    assert {name.split(".")[0] for name, p in task.named_parameters() if p.grad is not None} == {
        *("student", "head", "terms")
    }
    assert task.learning_teacher is None


def test_local_features_reach_its_embedding_through_its_own_head(tiny: Any, cnn_teacher: Path) -> None:
    """URFM's relay, recomputed: local features -> a token each -> the CNN's head -> 1 - cos to its embedding."""
    task = build_task(tiny.recipe(cnn_teacher, {"urfm": URFM}), tiny.source).eval()
    images, labels = tiny.batch()
    x = (images.float() - 127.5) / 127.5
    urfm: Any = task.terms["urfm"]
    with torch.no_grad():
        given = task(images, labels).parts["urfm.relay"]
        tokens = task.student.forward_features(x).flatten(2).transpose(1, 2)  # type: ignore[operator]
        read = urfm.read_out(urfm.local_features(tokens, branch="student"))
        plain: Any = load_bundle(cnn_teacher).model
        embedding = plain.forward_head(read.transpose(1, 2).reshape(6, 24, 7, 7))
        expected = (1 - functional.cosine_similarity(embedding, plain(x))).mean()
    torch.testing.assert_close(given, expected)


def test_what_a_cnn_cannot_teach_is_refused(tiny: Any, cnn_teacher: Path) -> None:
    with pytest.raises(UsageError, match=r"apt: prompts need a Transformer teacher, .* is a MobileFaceNet"):
        build_task(tiny.recipe(cnn_teacher, {"apt": {}}), tiny.source)
    with pytest.raises(UsageError, match="takes 49 tokens: local_centres must be 49, not 16"):
        build_task(tiny.recipe(cnn_teacher, {"urfm": {**URFM, "local_centres": 16}}), tiny.source)
    with pytest.raises(UsageError, match="the teacher is a Linear: valid are a Transformer"):
        CnnTeacher(torch.nn.Linear(2, 2))


def test_an_iresnet_teaches() -> None:
    network: Any = create_model("iresnet18", embedding_width=16)
    teacher = CnnTeacher(network)
    x = torch.randn(1, 3, 112, 112)
    seen = teacher(x)
    assert (teacher.grid, teacher.token_width, teacher.embedding_width) == ((7, 7), 512, 16)
    assert seen.tokens.shape == (1, 49, 512) and not seen.embedding.requires_grad
    torch.testing.assert_close(seen.embedding, network(x))
