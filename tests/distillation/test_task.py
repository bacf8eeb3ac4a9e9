"""The task: what learns, what stays still, what the student is exported as, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from facekd.common.errors import FacekdError, UsageError
from facekd.distillation.build import build_task
from facekd.distillation.teachers.model_file import ModelFileTeacher
from facekd.heads import create_head
from facekd.training.data import StepBatches
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.precision import Precision
from facekd.training.step import TrainStep

ONE_BLOCK: dict[str, Any] = {"embed_dim": 16, "depths": [1], "num_heads": [1]}
URFM: dict[str, Any] = {"local_centres": 4, "width": 16, "heads": 2}


FULL = ({"embedding": {"weight": 2}}, {"urfm": {**URFM, "relay_weight": 1}}, {"apt": {"prompts": 3}})


def test_the_teacher_is_unchanged_bit_for_bit_and_stays_in_eval(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, *FULL), tiny.source)
    frozen = {key: value.clone() for key, value in task.state_dict().items() if key.startswith("teacher.teacher.")}
    assert any("running_mean" in key for key in frozen)
    tiny.train(task)
    state = task.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in frozen.items())
    assert task.training and task.student.training
    assert not any(module.training for module in task.teacher.teacher.modules())  # type: ignore[union-attr]


def test_only_student_head_prompts_and_urfm_learn(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, *FULL), tiny.source)
    task(*tiny.batch()).loss.backward()
    with_gradient = {name.split(".")[0] for name, p in task.named_parameters() if p.grad is not None}
    assert with_gradient == {"student", "head", "teacher", "terms"}
    names = {name for name, p in task.named_parameters() if p.grad is not None and name.startswith("teacher.")}
    assert names and all(name.startswith("teacher.prompts.") for name in names)
    listed = {id(p) for group in task.parameter_groups() for p in group.parameters}
    assert listed == {id(p) for p in task.parameters() if p.requires_grad}


def test_prompts_learn_in_every_so_many_steps_and_the_rest_in_each(tiny: Any, teacher: Path) -> None:
    recipe = tiny.recipe(teacher, *FULL[:2], {"apt": {"prompts": 3, "interval": 2}})
    task = build_task(recipe, tiny.source)
    optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=9), clip_norm=None)
    train_step = TrainStep(
        task, optimisers, Precision(name="fp32", channels_last=False, device=torch.device("cpu")), None
    )
    images, labels = tiny.batch()
    step_batches = StepBatches([{"images": images, "labels": labels, "keys": []}], 0, 1)
    moved = []
    for step in range(4):
        before = {name: p.detach().clone() for name, p in task.named_parameters()}
        train_step.step(step_batches, step)
        moved.append({name.split(".")[0] for name, p in task.named_parameters() if not torch.equal(p, before[name])})
    assert moved == [{"student", "head", "terms", "teacher"}, {"student", "head", "terms"}] * 2


def test_the_loss_is_the_weighted_sum_of_its_parts(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, *FULL, head={"name": "cosface", "weight": 0.5}), tiny.source)
    out = task(*tiny.batch())
    weights = {"identity": 0.5, "teacher.identity": 1.0, "embedding.cosine": 2.0}
    weights |= {f"urfm.{part}": weight for part, weight in task.terms["urfm"].weights.items()}  # type: ignore[union-attr]
    assert set(out.parts) == set(weights)
    expected = sum(weights[name] * float(part) for name, part in out.parts.items())
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_teachers_own_loss_is_its_margin_softmax(tiny: Any, teacher: Path) -> None:
    """Recomputed from the bundle: scale 16, cosine margin 0.2 on the prompted embedding."""
    task = build_task(tiny.recipe(teacher, {"apt": {"prompts": 3}}), tiny.source)
    images, labels = tiny.batch()
    given = task(images, labels).parts["teacher.identity"]
    centres = task.teacher.classifier.centres  # type: ignore[union-attr]
    embedding = task.teacher((images.float() - 127.5) / 127.5).embedding  # type: ignore[misc,operator]
    cosines = functional.normalize(embedding) @ functional.normalize(centres).T
    logits = 16 * (cosines - 0.2 * functional.one_hot(labels, 6))
    torch.testing.assert_close(given, functional.cross_entropy(logits, labels).detach())


def test_embedding_term_is_one_minus_the_cosine_to_the_plain_teacher(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, {"embedding": {}}), tiny.source).eval()
    images, labels = tiny.batch()
    x = (images.float() - 127.5) / 127.5
    with torch.no_grad():
        a, b = task.student(x).numpy(), task.teacher.teacher(x).numpy()  # type: ignore[union-attr,operator]
        given = float(task(images, labels).parts["embedding.cosine"])
    cosines = [np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(a, b, strict=True)]
    assert given == pytest.approx(1 - float(np.mean(cosines)), abs=1e-5)


def test_keep_embedding_starts_near_the_plain_teacher_and_needs_no_head(tiny: Any, tmp_path: Path) -> None:
    bare = tiny.save_teacher(tmp_path / "bare", with_head=False)
    task = build_task(tiny.recipe(bare, {"apt": {"prompts": 1, "keep": "embedding"}}), tiny.source)
    parts = task(*tiny.batch()).parts
    assert 0 <= float(parts["teacher.embedding"]) < 0.2


def test_an_adapting_teacher_comes_nearer_to_the_student(tiny: Any, teacher: Path) -> None:
    apt = {"prompts": 3, "keep": "embedding", "adaptation_weight": 5, "interval": 2, "lr": 0.05}
    task = build_task(tiny.recipe(teacher, {"apt": apt}), tiny.source)
    (group,) = (group for group in task.parameter_groups() if group.name == "prompts")
    assert group.lr == 0.05
    images, labels = tiny.batch()
    task.student.eval()
    prompts = torch.optim.AdamW(group.parameters, lr=group.lr, weight_decay=0)
    losses = []
    for step in range(20):
        task.begin_step(2 * step)
        out = task(images, labels)
        assert set(out.parts) == {"identity", "teacher.embedding", "teacher.adaptation"}
        prompts.zero_grad()
        out.loss.backward()
        prompts.step()
        losses.append(float(out.parts["teacher.adaptation"]))
    assert losses[-1] < losses[0] - 0.0003  # a teacher of one block of 16 channels: all that its prompts can


def test_what_the_prompts_learn_by_is_not_computed_in_the_steps_in_which_they_rest(tiny: Any, teacher: Path) -> None:
    apt = {"prompts": 3, "keep": "embedding", "adaptation_weight": 5, "interval": 2}
    task = build_task(tiny.recipe(teacher, {"embedding": {}}, {"apt": apt}), tiny.source)
    seen = []
    for step in range(2):
        task.begin_step(step)
        seen.append(set(task(*tiny.batch()).parts))
    assert seen[0] - seen[1] == {"teacher.embedding", "teacher.adaptation"}
    assert seen[1] == {"identity", "embedding.cosine"}


def test_the_distilled_student_has_the_keys_of_an_undistilled_one(tiny: Any, teacher: Path) -> None:
    distilled = build_task(tiny.recipe(teacher, *FULL), tiny.source)
    tiny.train(distilled, steps=1)
    plain = build_task(tiny.recipe(None), tiny.source)
    assert distilled.student.state_dict().keys() == plain.student.state_dict().keys()
    assert plain.state_dict().keys() == {
        *(f"student.{key}" for key in plain.student.state_dict()),
        *(f"head.{key}" for key in plain.head.state_dict()),  # type: ignore[union-attr]
    }


def test_state_round_trip_leaves_the_teacher_out(tiny: Any, teacher: Path) -> None:
    one, two = (build_task(tiny.recipe(teacher, *FULL), tiny.source) for _ in range(2))
    tiny.train(one)
    state = one.trainable_state_dict()
    assert not any(key.startswith("teacher.teacher.") for key in state)
    assert any(key.startswith("teacher.prompts.") for key in state)
    two.load_trainable_state_dict(state)
    one.eval(), two.eval()
    torch.testing.assert_close(one(*tiny.batch()).loss, two(*tiny.batch()).loss, rtol=0, atol=0)
    with pytest.raises(UsageError, match="another recipe"):
        two.load_trainable_state_dict({key: value for key, value in state.items() if "prompts" not in key})


def test_learning_teacher_for_evaluation_gives_the_prompted_embedding(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, *FULL), tiny.source)
    x = torch.randn(2, 3, 112, 112)
    assert task.learning_teacher is not None
    assert torch.equal(task.learning_teacher(x), task.teacher(x).embedding)  # type: ignore[misc,operator]
    assert build_task(tiny.recipe(teacher, {"embedding": {}}), tiny.source).learning_teacher is None


def test_centres_start_at_the_teachers(tiny: Any, teacher: Path) -> None:
    task = build_task(tiny.recipe(teacher, {"embedding": {}}, head={"name": "cosface", "init": "teacher"}), tiny.source)
    reference = build_task(tiny.recipe(teacher, {"apt": {}}), tiny.source).teacher.classifier  # type: ignore[union-attr]
    assert task.head is not None and reference is not None
    cosines = functional.cosine_similarity(task.head.centres, reference.centres)
    torch.testing.assert_close(cosines, torch.ones(6))
    fresh = create_head("cosface", embedding_width=32, num_identities=6).centres.norm(dim=1).mean()
    assert float(task.head.centres.norm(dim=1).mean().detach()) == pytest.approx(float(fresh.detach()), rel=0.3)


def test_an_inherited_frozen_classifier_does_not_learn(tiny: Any, teacher: Path) -> None:
    head = {"name": "cosface", "init": "teacher", "freeze": True}
    task = build_task(tiny.recipe(teacher, *FULL, head=head), tiny.source)
    assert task.head is not None
    before = task.head.centres.clone()
    tiny.train(task)
    assert torch.equal(task.head.centres, before)
    assert all(task.head.centres is not p for group in task.parameter_groups() for p in group.parameters)


@pytest.mark.parametrize(
    ("terms", "sections", "message"),
    [
        (({"embedding": {}},), {"teacher": None}, "needs a teacher"),
        (({"embedding": {}},), {"model": {"arguments": {"scale": 0.25, "embedding_width": 16}}}, "16 wide"),
        (({"apt": {}},), {"teacher": {"bundle": "model.onnx"}}, "apt needs a Transformer"),
        (
            ({"apt": {"adaptation_weight": 1, "keep": "embedding"}},),
            {"model": {"arguments": {"scale": 0.25, "embedding_width": 16}}},
            "apt.adaptation_weight: the student's embedding is 16 wide",
        ),
        (({"embedding": {}},), {"teacher": {"bundle": "nowhere"}}, "nowhere"),
        (({"embedding": {}},), {"teacher": {"bundle": "nowhere.onnx"}}, "no teacher at nowhere.onnx"),
        (
            ({"urfm": {}},),
            {"model": {"name": "swin_teacher", "arguments": {"embed_dim": 16, "depths": [1], "num_heads": [1]}}},
            "feature map",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    tiny: Any, teacher: Path, terms: tuple[dict[str, Any], ...], sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_task(tiny.recipe(teacher, *terms, **sections), tiny.source)


def test_a_head_of_other_identities_is_refused(tiny: Any, tmp_path: Path) -> None:
    other = tiny.save_teacher(tmp_path / "other", identities=9)
    with pytest.raises(UsageError, match="keep = embedding"):
        build_task(tiny.recipe(other, {"apt": {}}), tiny.source)


def test_an_onnx_model_teaches_by_its_embeddings(tiny: Any, shared: Path) -> None:
    model = shared / "weights" / "edgeface_xs.onnx"
    wide = {**tiny.student, "embedding_width": 512}
    task = build_task(tiny.recipe(model, {"embedding": {}}, model={"arguments": wide}), tiny.source)
    images, labels = tiny.batch()
    out = task(images, labels)
    out.loss.backward()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    x = ((images.numpy().astype(np.float32) - 127.5) / 127.5).astype(np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    torch.testing.assert_close(task.teacher(torch.from_numpy(x)).embedding, torch.from_numpy(expected))  # type: ignore[misc,operator]
    with pytest.raises(UsageError, match="tokens"):
        build_task(tiny.recipe(model, {"urfm": {}}, model={"arguments": wide}), tiny.source)


@pytest.mark.parametrize(
    ("batch", "out", "message"),
    [(1, 8, "failed on input"), ("b", "e", "fixed width"), ("b", 8, "failed on input")],
    ids=["another image size, one at a time", "width unknown", "another image size"],
)
def test_an_onnx_teacher_that_cannot_teach_is_refused(
    tmp_path: Path, batch: int | str, out: int | str, message: str
) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weights = onnx.numpy_helper.from_array(np.ones((3 * 16 * 16, 8), np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    if out == "e":  # as wide as the image has pixels
        nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, "h", "w"])
    embedding = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, out])
    graph = helper.make_graph(nodes, "g", [image], [embedding], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(FacekdError, match=message):
        ModelFileTeacher(tmp_path / "m.onnx")(torch.zeros(2, 3, 112, 112))
