"""The loop with a task of its own: steps, accumulation, divergence, interruption, resuming."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import FacekdError, UsageError
from facekd.data.source import UnreadableImage
from facekd.recipe import Recipe
from facekd.training.checkpoint import CheckpointStore
from facekd.training.data import StepBatches
from facekd.training.interruption import Interrupted
from facekd.training.log import Reporter
from facekd.training.loop import Trainer
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.precision import Precision
from facekd.training.step import MAX_SKIPS_IN_A_ROW, TrainStep
from facekd.training.stream import BatchStream
from facekd.training.task import TrainingTask

CPU = Precision(name="fp32", channels_last=False, device=torch.device("cpu"))


class RandomFaces:
    """44 random 8x8 images of 4 identities; those in `broken` cannot be read."""

    name = "random"
    num_identities = 4

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.labels = np.arange(44, dtype=np.int64) % 4
        self._broken = broken

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        return f"face-{i}"

    def read(self, i: int) -> np.ndarray:
        if i in self._broken:
            raise UnreadableImage(self.key(i), "torn")
        return np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)

    def fingerprint(self) -> str:
        return "f" * 64


class ToyTask(nn.Module, TrainingTask):
    """A linear classifier; `hook(call, x)` may change a forward's input or do something at that moment."""

    def __init__(self, *, norm: bool = True, hook: Callable[[int, torch.Tensor], torch.Tensor] | None = None) -> None:
        super().__init__()
        layers = [nn.BatchNorm1d(192), nn.Dropout(0.1)] if norm else []
        self.student = nn.Sequential(nn.Flatten(), *layers, nn.Linear(192, 4))
        self.calls = 0
        self._hook = hook

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        x = images.float() / 127.5 - 1
        if self._hook is not None:
            x = self._hook(self.calls, x)
        self.calls += 1
        loss = functional.cross_entropy(self.student(x).float(), labels)
        return SimpleNamespace(loss=loss, parts={"identity": loss.detach()}, embeddings=x.detach())

    def parameter_groups(self) -> list[SimpleNamespace]:
        values = {"optimiser": "sgd", "lr": 0.05, "weight_decay": 5e-4, "momentum": 0.9}
        return [SimpleNamespace(name="network", parameters=list(self.student.parameters()), **values)]

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        return self.state_dict()

    def load_trainable_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.load_state_dict(state)

    def diagnostics(self) -> dict[str, float]:
        return {"calls": float(self.calls)}


def make_recipe(**training: Any) -> Recipe:
    values = {
        "epochs": 3,
        "batch_size": 8,
        "precision": "fp32",
        "channels_last": False,
        "device": "cpu",
        "log_every": 1,
        "checkpoint_every": 100,
        **training,
    }
    return Recipe.model_validate({"name": "toy", "data": {"source": "-", "workers": 0}, "training": values})


def make_trainer(out: Path, task: ToyTask, *, source: RandomFaces | None = None, **training: Any) -> Trainer:
    evaluate = training.pop("evaluate", None)
    recipe = make_recipe(**training)
    reporter = Reporter(quiet=True)
    return Trainer(
        recipe,
        task,
        BatchStream(recipe, source or RandomFaces()),
        out=out,
        evaluate=evaluate,
        reporter=reporter,
        resume_command="AGAIN",
    )


def new_task(**arguments: Any) -> ToyTask:
    torch.manual_seed(7)
    return ToyTask(**arguments)


def lines(out: Path, kind: str = "step") -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gather(images: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randint(0, 255, (images, 3, 8, 8), generator=generator, dtype=torch.uint8),
        "labels": torch.arange(images) % 4,
        "keys": [f"{seed}-{i}" for i in range(images)],
    }


def test_windows_cover_each_epoch_once_and_end_short() -> None:
    stream = BatchStream(make_recipe(accumulation=2), RandomFaces())  # type: ignore[arg-type]
    assert (stream.batches_per_epoch, stream.steps_per_epoch, stream.total_steps()) == (5, 3, 9)
    steps = stream.steps(0, 0)
    epochs = [[next(steps) for _ in range(3)] for _ in range(2)]
    for epoch in epochs:
        assert [len(step_batches.batches) for step_batches in epoch] == [2, 2, 1]
        assert [step_batches.next_batch for step_batches in epoch] == [2, 4, 5]
        keys = [key for step_batches in epoch for key in step_batches.keys]
        assert len(set(keys)) == len(keys) == 40
    first, second = ([step_batches.keys for step_batches in epoch] for epoch in epochs)
    assert first != second
    resumed = stream.steps(1, 2)
    assert [next(resumed).keys for _ in range(2)] == second[1:]


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (8, 5, 3)])
def test_accumulation_is_the_large_batch(sizes: tuple[int, ...]) -> None:
    whole = gather(16)
    parts, start = [], 0
    for size in sizes:
        parts.append({name: value[start : start + size] for name, value in whole.items()})
        start += size
    weights = []
    for batches in ([whole], parts):
        task = new_task(norm=False)
        optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=5), clip_norm=0.5)
        train_step = TrainStep(task, optimisers, CPU, None)
        reports = [train_step.step(StepBatches(batches, 0, 1), step)[0] for step in range(5)]
        weights.append((task.student[1].weight.detach(), reports[-1].parts["loss"], reports[-1].gradient_norm))
    assert torch.allclose(weights[0][0], weights[1][0], atol=1e-6)
    assert weights[0][1:] == pytest.approx(weights[1][1:], rel=1e-5)


def test_step_equals_a_plain_torch_loop() -> None:
    task, reference = new_task(norm=False), new_task(norm=False)
    optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=4, warmup=0.5), clip_norm=1.0)
    train_step = TrainStep(task, optimisers, CPU, None)
    sgd = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for step in range(4):
        batch = gather(8, seed=step)
        train_step.step(StepBatches([batch], 0, 1), step)
        sgd.param_groups[0]["lr"] = 0.05 * [0.5, 1.0, 1.0, 0.5][step]  # two steps of warm-up, then cos of 0 and pi/2
        sgd.zero_grad()
        reference(batch["images"], batch["labels"]).loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        sgd.step()
    assert torch.allclose(task.student[1].weight, reference.student[1].weight, atol=1e-6)


def test_interrupted_at_every_step_is_one_run(tmp_path: Path) -> None:
    whole = new_task()
    make_trainer(tmp_path / "whole", whole, accumulation=2, ema=0.9).run()

    def interrupt(call: int, x: torch.Tensor) -> torch.Tensor:
        if call == 0:
            os.kill(os.getpid(), signal.SIGINT if session % 2 else signal.SIGTERM)
        return x

    for session in range(20):
        task = ToyTask(hook=interrupt)  # other fresh weights each time: all must come from the checkpoint
        if session == 0:
            task.load_state_dict(new_task().state_dict())
        try:
            make_trainer(tmp_path / "torn", task, accumulation=2, ema=0.9).run(resume=True)
        except Interrupted as stop:
            assert stop.exit_code == 130
            assert str(stop).endswith(f"stopped and saved after step {session + 1} of 9; go on with: AGAIN")
        else:
            break
    assert session == 8
    assert same(whole.state_dict(), task.state_dict())

    def figures(out: Path) -> list[tuple[Any, ...]]:
        return [(line["step"], line["epoch"], line["parts"], line["lr"], line["images"]) for line in lines(out)]

    assert figures(tmp_path / "torn") == figures(tmp_path / "whole")


@pytest.mark.parametrize("inside", [True, False], ids=["during a step", "while data are read"])
def test_a_killed_loader_process_costs_no_step(tmp_path: Path, inside: bool) -> None:
    """As the system kills when memory runs out: one line with cause and command, and the run goes on bit for bit."""

    def settings(task: ToyTask, out: Path) -> Trainer:
        trainer = make_trainer(out, task)
        trainer.recipe.data.workers = 1
        return trainer

    def kill(call: int, x: torch.Tensor) -> torch.Tensor:
        if call == 4 and inside:
            (worker,) = multiprocessing.active_children()
            worker.kill()
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        return x

    whole = new_task()
    settings(whole, tmp_path / "whole").run()
    torn = new_task(hook=kill)
    trainer = settings(torn, tmp_path / "torn")
    if not inside:
        trainer.data._source = Deadly()  # type: ignore[attr-defined]
    with pytest.raises(FacekdError, match=r"killed.*memory.*saved after step \d+ of 15; go on with: AGAIN") as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) not in (signal.SIG_IGN, None)
    saved = CheckpointStore(tmp_path / "torn" / "checkpoints").list()[-1].step
    assert saved == trainer.progress.step and (saved == 5) == inside
    again = ToyTask()
    settings(again, tmp_path / "torn").run(resume=True)
    assert same(whole.state_dict(), again.state_dict())


class Deadly(RandomFaces):
    """Face 20 kills the process that reads it, if that is one of the loader's."""

    def read(self, i: int) -> np.ndarray:
        if i == 20 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(i)


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    make_trainer(tmp_path, new_task(), epochs=0.2).run()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_divergence_saves_the_state_before_it_and_names_the_batch(tmp_path: Path, kind: str) -> None:
    def poison(call: int, x: torch.Tensor) -> torch.Tensor:
        if call != 5:
            return x
        if kind == "loss":
            return x * float("nan")  # batch normalisation takes it into its statistics
        x = x.requires_grad_()
        task.student[3].weight.register_hook(lambda gradient: gradient * float("inf"))
        return x

    task = new_task(hook=poison)
    message = "the loss is nan" if kind == "loss" else "the gradient norm is (nan|inf)"
    with pytest.raises(FacekdError, match=rf"step 4: {message} \(.*identity.*\); images: face-\d+.*step 3 is saved"):
        make_trainer(tmp_path / "bad", task, accumulation=2, checkpoint_every=1).run()

    def stop(call: int, x: torch.Tensor) -> torch.Tensor:
        if call == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return x

    good = new_task(hook=stop)
    with pytest.raises(Interrupted):
        make_trainer(tmp_path / "good", good, accumulation=2).run()
    states = []
    for out in ("bad", "good"):
        loaded = CheckpointStore(tmp_path / out / "checkpoints").load_newest()
        assert loaded is not None
        states.append(loaded[1])
    assert states[0]["progress"]["step"] == 3
    assert same(states[0]["task"], states[1]["task"])
    assert torch.equal(states[0]["random"]["torch"], states[1]["random"]["torch"])
    (line,) = lines(tmp_path / "bad", "diverged")
    # Only the second batch of the step gave NaN; an infinite gradient is that of the whole step.
    assert len(line["keys"]) == (8 if kind == "loss" else 16)


def looking_late(trainer: Trainer) -> Trainer:
    """As on CUDA: the figures of a step are looked at when something is made of the state."""
    make_parts = trainer._make_parts

    def make() -> None:
        make_parts()
        trainer.train_step.every_step = False

    trainer._make_parts = make  # type: ignore[method-assign]
    return trainer


def test_looking_late_changes_nothing(tmp_path: Path) -> None:
    """Weights, log and checkpoints are those of a run that looks at every step."""
    options: dict[str, Any] = {"accumulation": 2, "log_every": 4, "checkpoint_every": 3}
    each, late = new_task(), new_task()
    make_trainer(tmp_path / "each", each, **options).run()
    looking_late(make_trainer(tmp_path / "late", late, **options)).run()
    assert same(each.state_dict(), late.state_dict())
    kept = ("step", "parts", "gradient_norm", "lr", "skipped", "images", "epoch")
    logs = [[{key: line[key] for key in kept} for line in lines(tmp_path / out)] for out in ("each", "late")]
    assert logs[0] == logs[1] and len(logs[0]) == 3
    for out, task in (("each", each), ("late", late)):
        loaded = CheckpointStore(tmp_path / out / "checkpoints").load_newest()
        assert loaded is not None and loaded[0].step == 9
        assert same(loaded[1]["task"], task.state_dict())


@pytest.mark.parametrize("checkpoint_every", [2, 100])
def test_a_bad_step_that_is_seen_late_is_never_saved(tmp_path: Path, checkpoint_every: int) -> None:
    """Step 5 is NaN; the next look is after step 6, or 8. The step and its images are named."""
    task = new_task(hook=lambda call, x: x * (float("nan") if call == 7 else 1))
    options: dict[str, Any] = {"accumulation": 2, "log_every": 8, "checkpoint_every": checkpoint_every}
    trainer = looking_late(make_trainer(tmp_path, task, **options))
    kept = "The checkpoint of step 4 is intact" if checkpoint_every == 2 else "There is no checkpoint yet"
    with pytest.raises(FacekdError, match=rf"step 5: the loss is nan .*images: face-\d+.*{kept}"):
        trainer.run()
    (line,) = lines(tmp_path, "diverged")
    assert len(line["keys"]) == 8
    for path in (tmp_path / "checkpoints").glob("step-*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(bool(torch.isfinite(value).all()) for value in state["task"].values())


def test_one_transfer_brings_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that nobody looks at move nothing to the host; a look moves all at once; buffers are not copied."""
    task = new_task()
    optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=9), clip_norm=1.0)
    train_step = TrainStep(task, optimisers, CPU, None, every_step=False)
    transfers: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "__float__", "__bool__", "__int__"):
        original = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *given: Any, _name: str = name, _original: Any = original) -> Any:
            transfers.append(_name)
            return _original(self, *given)

        monkeypatch.setattr(torch.Tensor, name, counted)
    monkeypatch.setattr("facekd.training.step._Buffers", lambda task: pytest.fail("buffers were copied"))
    for step in range(3):
        transfers.clear()
        assert train_step.step(StepBatches([gather(8, step)], 0, 1), step) == []
        assert transfers == []
    reports = train_step.look()
    assert transfers == ["tolist"]
    assert [len(report.parts) for report in reports] == [2, 2, 2]
    assert train_step.look() == []


def scaled_stepper(hook: Callable[[int, torch.Tensor], torch.Tensor]) -> tuple[ToyTask, TrainStep]:
    task = new_task(hook=hook)
    optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=99))
    return task, TrainStep(task, optimisers, CPU, torch.amp.GradScaler("cpu", init_scale=1024.0))


def test_an_fp16_overflow_is_a_skipped_step_that_changes_nothing() -> None:
    task, train_step = scaled_stepper(lambda call, x: x * (float("inf") if call == 1 else 1))
    train_step.step(StepBatches([gather(8)], 0, 1), 0)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    (report,) = train_step.step(StepBatches([gather(8)], 0, 2), 1)
    assert report.skipped
    assert same(before, task.state_dict())
    assert train_step.scaler is not None
    assert train_step.scaler.get_scale() == 512.0
    assert not train_step.step(StepBatches([gather(8)], 0, 3), 2)[0].skipped
    assert not same(before, task.state_dict())
    assert train_step.skipped == 1


def test_fp16_overflow_without_end_is_divergence() -> None:
    _, train_step = scaled_stepper(lambda call, x: x * float("inf"))
    for step in range(MAX_SKIPS_IN_A_ROW - 1):
        assert train_step.step(StepBatches([gather(8)], 0, 1), step)[0].skipped
    with pytest.raises(FacekdError, match="the loss is nan"):
        train_step.step(StepBatches([gather(8)], 0, 1), MAX_SKIPS_IN_A_ROW)


def test_scaled_gradients_are_those_without_scaling() -> None:
    task, train_step = scaled_stepper(lambda call, x: x)
    plain = new_task()
    optimisers = Optimisers(plain.parameter_groups(), schedule=Schedule(total_steps=99), clip_norm=0.1)
    train_step.optimisers.clip_norm = 0.1
    norms = []
    for one in (train_step, TrainStep(plain, optimisers, CPU, None)):
        torch.manual_seed(0)
        norms.append(one.step(StepBatches([gather(8), gather(8, 1)], 0, 2), 0)[0].gradient_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert torch.allclose(task.student[3].weight, plain.student[3].weight, atol=1e-6)


def test_fp16_and_bf16_train_on_the_cpu(tmp_path: Path) -> None:
    for precision in ("fp16", "bf16"):
        make_trainer(tmp_path / precision, new_task(), precision=precision, epochs=6).run()
        losses = [line["parts"]["loss"] for line in lines(tmp_path / precision)]
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


def test_the_best_on_the_dev_pairs_is_chosen_and_evaluating_leaves_no_trace(tmp_path: Path) -> None:
    plain = new_task()
    make_trainer(tmp_path / "plain", plain).run()
    seen: dict[int, torch.Tensor] = {}

    def evaluate(student: nn.Module, step: int) -> dict[str, float]:
        torch.rand(3)  # an evaluation that draws must not change what the training draws
        seen[step] = student[3].weight.detach().clone()  # type: ignore[index, union-attr, operator]
        return {"accuracy": {5: 0.5, 10: 0.9}.get(step, 0.7)}

    task = new_task()
    result = make_trainer(tmp_path / "best", task, evaluate=evaluate).run()
    assert result.chosen_step == result.progress.best_step == 10
    assert list(seen) == [5, 10, 15]
    assert torch.equal(seen[15], plain.student[3].weight)
    assert torch.equal(seen[10], task.student[3].weight)


def test_the_moving_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    def evaluate(student: nn.Module, step: int) -> dict[str, float]:
        seen[step] = student[3].weight.detach().clone()  # type: ignore[index, union-attr, operator]
        return {"accuracy": -step}

    averaged, plain = new_task(), new_task()
    make_trainer(tmp_path / "a", averaged, evaluate=evaluate, ema=0.9).run()
    make_trainer(tmp_path / "b", plain, max_steps=5).run()
    assert torch.equal(averaged.student[3].weight, seen[5])
    assert not torch.equal(seen[5], plain.student[3].weight)


def test_broken_images_are_counted_named_and_left_out(tmp_path: Path) -> None:
    broken = tuple(range(0, 44, 4))
    result = make_trainer(tmp_path, new_task(), source=RandomFaces(broken), epochs=1).run()
    keys = {key for line in lines(tmp_path) for key in line["broken_keys"]}
    assert keys <= {f"face-{i}" for i in broken}
    assert result.progress.broken == len(keys) == lines(tmp_path)[-1]["broken"]
    assert result.progress.images == 40 - result.progress.broken


def test_nothing_readable_is_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    with pytest.raises(FacekdError, match="not one batch of epoch 0"):
        make_trainer(tmp_path, new_task(), source=RandomFaces(tuple(range(44)))).run()


def test_another_recipe_or_other_data_is_not_resumed(tmp_path: Path) -> None:
    make_trainer(tmp_path, new_task(), epochs=1).run()
    with pytest.raises(UsageError, match=r"training\.batch_size was 8, is now 4"):
        make_trainer(tmp_path, new_task(), epochs=1, batch_size=4).run(resume=True)
    other = RandomFaces()
    other.fingerprint = lambda: "0" * 64  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="other data"):
        make_trainer(tmp_path, new_task(), epochs=1, source=other).run(resume=True)
    make_trainer(tmp_path, new_task(), epochs=1, log_every=5).run(resume=True)


def test_max_minutes_ends_a_session_and_resume_ends_the_run(tmp_path: Path) -> None:
    whole, task = new_task(), new_task()
    make_trainer(tmp_path / "whole", whole).run()
    first = make_trainer(tmp_path / "short", task, max_minutes=1e-9).run()
    assert (first.progress.step, first.total_steps) == (1, 15)
    last = make_trainer(tmp_path / "short", ToyTask()).run(resume=True)
    assert last.progress.step == 15
    final = ToyTask()
    make_trainer(tmp_path / "short", final).run(resume=True)
    assert same(final.state_dict(), whole.state_dict())


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"batch_size = 64, but random has 44 images"):
        make_trainer(tmp_path, new_task(), batch_size=64)


def test_compiled_equals_eager(tmp_path: Path) -> None:
    eager, compiled = new_task(), new_task()
    make_trainer(tmp_path / "eager", eager, epochs=1).run()
    trainer = make_trainer(tmp_path / "compiled", compiled, epochs=1, compile=True)
    # The tracing is torch.compile's real one; its C++ code generation takes half a minute and is not ours to test.
    compiled.compile = lambda: nn.Module.compile(compiled, backend="aot_eager")  # type: ignore[method-assign, assignment]
    trainer.run()
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    assert torch.allclose(compiled.student[3].weight, eager.student[3].weight, atol=1e-5)


def test_resident_memory_is_flat_over_epochs(tmp_path: Path) -> None:
    make_trainer(tmp_path, new_task(), epochs=60, log_every=5).run()
    memory = [line["resident_mib"] for line in lines(tmp_path)]
    assert len(memory) == 60
    assert max(memory[30:]) - memory[20] < 4
