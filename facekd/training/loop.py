"""The training loop. It knows nothing of the method: a task maps a batch to a loss, and says what there is to train."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.distributed import collectives
from facekd.distributed.ranks import is_lost_rank
from facekd.recipe import Recipe
from facekd.training import distributed, resumption
from facekd.training.ahead import Ahead
from facekd.training.checkpoint import CheckpointFile, CheckpointStore
from facekd.training.data import StepBatches, TrainingData
from facekd.training.interruption import LOST_WORKER, Interrupted, LoaderDeaths, StopRequest, is_lost_worker
from facekd.training.log import NoLog, Reporter, TrainingLog
from facekd.training.loop_result import LoopResult
from facekd.training.meter import Meter, Progress, as_numbers
from facekd.training.optimisation import Optimisers, Schedule, WeightAverage
from facekd.training.precision_choice import choose_precision
from facekd.training.reproducibility import preserved_random_state, random_state, seed_everything, set_random_state
from facekd.training.shards import Shards
from facekd.training.step import Diverged, StepReport, TrainStep
from facekd.training.task import TrainingTask, as_module
from facekd.training.trackers import DEFAULT, Callback, TrackedRun, Trackers

Evaluate = Callable[[nn.Module, int], dict[str, float]]
"""(student, step) -> figures on the dev pairs; "accuracy" chooses the best checkpoint."""


class Trainer:
    """Trains a task by a recipe, in one process or as one of several ranks; rank 0 alone evaluates, logs and saves.

    Args:
        recipe: the sections optimisation and training are used.
        task: see facekd.training.task; already built, on the CPU.
        data: the training faces, in batches.
        out: `checkpoints/` and `log.jsonl` go here.
        evaluate: dev figures of the student, None for no evaluation.
        reporter: where progress goes.
        resume_command: what to tell somebody who interrupts.
        trackers: where the figures go besides `log.jsonl`: names, or functions.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: TrainingTask,
        data: TrainingData,
        *,
        out: Path,
        evaluate: Evaluate | None = None,
        reporter: Reporter | None = None,
        resume_command: str = "the same command with --resume",
        trackers: Sequence[str | Callback] = DEFAULT,
    ) -> None:
        self.recipe, self.task, self.data, self.out = recipe, task, data, out
        self.module = as_module(task)
        self._first = collectives.rank() == 0
        self.reporter = reporter or Reporter()
        self._evaluate = evaluate
        self._resume_command = resume_command
        self._trackers = trackers
        self._settings = recipe.training
        self.total_steps = data.total_steps()
        self.store = CheckpointStore(out / "checkpoints", keep_last=self._settings.keep_last, warn=self.reporter.warn)
        self.progress = Progress()
        self.history: dict[int, dict[str, float]] = {}

    def run(self, *, resume: bool = False) -> LoopResult:
        """Trains to the end of the budget.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the state is saved.
            FacekdError: the loss diverged (the last good state is saved), the disk is full, the data are unreadable,
                or the checkpoint is of another recipe or data.
        """
        if self._settings.threads is not None:
            torch.set_num_threads(self._settings.threads)
        loaded = self._newest() if resume else None
        saved = None if loaded is None else loaded[1]
        if saved is None:
            seed_everything(distributed.seed_of(self.recipe.seed, 0))
        else:
            resumption.check(saved, self.recipe, self.data, warn=self.reporter.warn)
        self.module.train()
        self.precision, measured = choose_precision(self._settings, saved, self.module, self.data, self.reporter)
        self.precision.place(self.module)
        self._make_parts()
        if loaded is not None:
            self._load(*loaded)
            self.reporter.say(f"resumed at step {self.progress.step} of {self.total_steps}")
        with self._open_log() as self.log, StopRequest() as stop:
            if measured:
                self.log.write("precision", self.progress.step, measured)
            if self._settings.compile:
                self.module.compile()
            self.reporter.start(self.progress.step, self.total_steps)
            self._deaths = LoaderDeaths()
            try:
                self._train(stop)
            finally:
                self._deaths.restore()
                self.reporter.stop()
        return self._choose()

    # Set-up

    def _open_log(self) -> TrainingLog:
        if not self._first:
            return NoLog()
        step = self.progress.step
        run = TrackedRun(self.out, self.recipe.name, self.recipe.model_dump(mode="json"), step)
        return TrainingLog(self.out, after_step=step, trackers=Trackers(self._trackers, run, warn=self.reporter.warn))

    def _newest(self) -> tuple[CheckpointFile, dict[str, Any]] | None:
        """The newest checkpoint, the same on every rank; None if there is none."""
        if self._first:
            self.store.clean()
        loaded = self.store.load_newest(mapped=collectives.world() > 1)
        steps = collectives.gather_numbers(-1 if loaded is None else loaded[0].step)
        if steps != [steps[0]] * len(steps):
            raise UsageError(f"not every rank sees the same checkpoints in {self.out}: put --out on a shared disk")
        return loaded

    def _make_parts(self) -> None:
        optimisation = self.recipe.optimisation
        schedule = Schedule(total_steps=self.total_steps, warmup=optimisation.warmup, kind=optimisation.schedule)
        head = distributed.shard_head(self.task)
        sharded = [] if head is None else [head.centres]
        groups = self.task.parameter_groups()
        self.optimisers = Optimisers(groups, schedule=schedule, clip_norm=optimisation.clip_norm, sharded=sharded)
        self.shards = Shards(self.task.head, self.optimisers)
        self.scaler = self.precision.scaler()
        model = distributed.wrap(self.task, head)
        self.train_step = TrainStep(self.task, self.optimisers, self.precision, self.scaler, model)
        decay = self._settings.ema
        self.average = None if decay is None else WeightAverage(self.task.student, decay)

    # The loop

    def _train(self, stop: StopRequest) -> None:
        began = time.monotonic()
        clock = time.perf_counter()
        minutes = self._settings.max_minutes
        meter = Meter()
        steps = self.data.steps(self.progress.epoch, self.progress.batch)
        if self.precision.device.type == "cuda":
            steps = Ahead(steps, self.precision.device)
        while self.progress.step < self.total_steps:
            step_batches = self._next(steps, stop)
            before = random_state()
            reports = self._step(step_batches, before)
            self.progress.step += 1
            self.progress.epoch, self.progress.batch = step_batches.epoch, step_batches.next_batch
            if step_batches.next_batch == self.data.batches_per_epoch:
                self.progress.epoch, self.progress.batch = step_batches.epoch + 1, 0
            clock, spent = time.perf_counter(), time.perf_counter() - clock
            self.progress.seconds += spent
            out_of_time = minutes is not None and collectives.anywhere(time.monotonic() - began >= 60 * minutes)
            last = out_of_time or self.progress.step == self.total_steps
            meter.add(self.progress, step_batches, reports)
            if last or self._is_looked_at():
                meter.take(self.progress, self._look())
            if last or self.progress.step % self._settings.log_every == 0:
                self._log(meter)
                meter = Meter(started=clock)
            self.reporter.advance(self.progress.step)
            evaluated = self._evaluate_if_due(last)
            stopping = collectives.anywhere(bool(stop))
            if evaluated or last or stopping or self.progress.step % self._settings.checkpoint_every == 0:
                meter.take(self.progress, self._look())
                self._save(random_state())
            if stopping and not last:
                raise Interrupted(self._stopped(stop.name or "another rank was interrupted"))
            if out_of_time and self.progress.step < self.total_steps:
                self.reporter.say(self._stopped(f"max_minutes = {minutes}"))
                return
            # Pace and time spent are those of training: evaluating and saving are left out.
            meter.started += time.perf_counter() - clock
            clock = time.perf_counter()

    def _next(self, steps: Iterator[StepBatches], stop: StopRequest) -> StepBatches:
        try:
            with self._deaths.heard():
                return next(steps)
        except RuntimeError as error:
            if collectives.world() > 1 and is_lost_rank(error):
                raise
            # The terminal sends Ctrl-C to the loader's processes too; a loader that lost one says so with this.
            if not stop:
                why = self._without_loader() if is_lost_worker(error) else f"the data loader failed: {error}"
                raise FacekdError(why) from error
            self._look()
            self._save(random_state())
            raise Interrupted(self._stopped(stop.name)) from error

    def _without_loader(self) -> str:
        """What to say where a process of the loader was killed; saves the state if that needs no other rank."""
        if collectives.world() == 1:
            self._look()
            self._save(random_state())
            return self._stopped(LOST_WORKER)
        steps = [file.step for file in self.store.list()]
        kept = f"the checkpoint of step {max(steps)} is intact" if steps else "there is no checkpoint yet"
        return f"{LOST_WORKER}; {kept}; go on with: {self._resume_command}"

    def _stopped(self, why: str | None) -> str:
        done = f"{self.progress.step} of {self.total_steps}"
        return f"{why}: stopped and saved after step {done}; go on with: {self._resume_command}"

    def _step(self, step_batches: StepBatches, before: dict[str, Any]) -> list[StepReport]:
        """One step; its report if it was looked at, nothing if no image of it could be read."""
        if not step_batches.batches:
            return []
        try:
            reports = self.train_step.step(step_batches, self.progress.step)
        except Diverged as error:
            self._diverged(error, before)
        if self.average is not None and not any(report.skipped for report in reports):
            self.average.update()
        return reports

    def _is_looked_at(self) -> bool:
        """Whether something is made of the state after this step: a log line, an evaluation, a checkpoint."""
        step, settings = self.progress.step, self._settings
        due = step % settings.log_every == 0 or step % settings.checkpoint_every == 0
        return due or self._evaluation_is_due()

    def _look(self) -> list[StepReport]:
        """Reports that were not looked at yet; before the state is saved, so that no bad step is."""
        try:
            return self.train_step.look()
        except Diverged as error:
            self._diverged(error, None)

    def _diverged(self, error: Diverged, before: dict[str, Any] | None) -> NoReturn:
        """Saves the state of before the step, if there is one, and raises one line that says what happened."""
        step = error.step + 1
        if error.undone and before is not None:
            self._save(before)
            kept = f"The state after step {self.progress.step} is saved"
        else:
            steps = [file.step for file in self.store.list()]
            kept = f"The checkpoint of step {max(steps)} is intact" if steps else "There is no checkpoint yet"
        self.log.write("diverged", self.progress.step, {"reason": str(error), "parts": error.parts, "keys": error.keys})
        parts = ", ".join(f"{name} {value:.4g}" for name, value in error.parts.items())
        more = f" and {len(error.keys) - 8} more (log.jsonl)" if len(error.keys) > 8 else ""
        shown = ", ".join(error.keys[:8]) + more
        raise FacekdError(
            f"step {step}: {error} ({parts}); images: {shown}. {kept}; lower optimisation.lr or look at these images"
        ) from error

    def _evaluation_is_due(self) -> bool:
        every = self._settings.evaluate_every
        return self.progress.batch == 0 if every is None else self.progress.step % every == 0

    def _evaluate_if_due(self, last: bool) -> bool:
        if self._evaluate is None or not (last or self._evaluation_is_due()):
            return False
        averaged = nullcontext() if self.average is None else self.average.applied()
        with preserved_random_state(), averaged:
            figures = self._evaluate(self.task.student, self.progress.step) if self._first else {}
        figures = collectives.from_first(figures)
        self.history[self.progress.step] = figures
        accuracy = figures["accuracy"]
        if self.progress.best_accuracy is None or accuracy > self.progress.best_accuracy:
            self.progress.best_accuracy, self.progress.best_step = accuracy, self.progress.step
        self.log.write("evaluation", self.progress.step, {"epoch": self._epochs(), **figures})
        listing = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.reporter.say(f"step {self.progress.step}: dev {listing} (best {self.progress.best_accuracy:.4f})")
        return True

    def _log(self, meter: Meter) -> None:
        with preserved_random_state():
            diagnostics = as_numbers(self.task.diagnostics())
        figures = {"epoch": self._epochs(), **meter.figures(self.progress), "diagnostics": diagnostics}
        self.log.write("step", self.progress.step, figures)
        for key, reason in meter.broken[:3]:
            self.reporter.warn(f"image {key} left out: {reason} ({self.progress.broken} so far)")
        text = f"epoch {self._epochs():.2f}  {meter.text()}"
        self.reporter.figures(self.progress.step, self.total_steps, text)

    def _epochs(self) -> float:
        return self.progress.epoch + self.progress.batch / self.data.batches_per_epoch

    # State

    def _save(self, random: dict[str, Any]) -> None:
        task, optimisers, rows = self.shards.split(self.task.trainable_state_dict(), self.optimisers.state_dict())
        ranks = self.shards.write(rows, self.store, self.progress.step) if rows else None
        randoms = collectives.gather_objects(random)
        if not self._first:
            return
        state = {
            **resumption.identity(self.recipe, self.data),
            "progress": vars(self.progress).copy(),
            "precision": {"name": self.precision.name, "channels_last": self.precision.channels_last},
            "task": task,
            "optimisers": optimisers,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "average": self.average.state_dict() if self.average else None,
            "random": random,
            **({"random_by_rank": randoms} if len(randoms) > 1 else {}),
        }
        self.store.save(state, step=self.progress.step, best_step=self.progress.best_step, ranks=ranks)

    def _load(self, file: CheckpointFile, state: dict[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        task, optimisers = self.shards.join(state["task"], state["optimisers"], file.folder)
        self.task.load_trainable_state_dict(task)
        self.optimisers.load_state_dict(optimisers)
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        randoms = state.get("random_by_rank", [state["random"]])
        if len(randoms) == collectives.world():
            set_random_state(randoms[collectives.rank()])
        else:
            seed_everything(distributed.seed_of(self.recipe.seed, self.progress.step))
        best = self.progress.best_step
        if best is not None and self.store.at(best) is None:
            self.reporter.warn(f"the best checkpoint (step {best}) is gone: the best is chosen from here on")
            self.progress.best_step = self.progress.best_accuracy = None

    def _choose(self) -> LoopResult:
        """Puts the best evaluated weights, or the last, into the task; sharded centres are whole then, on rank 0."""
        best = self.progress.best_step
        chosen = self.progress.step if best is None else best
        if self._first and (chosen != self.progress.step or self.shards.sharded):
            file = self.store.at(chosen)
            if file is None:
                raise FacekdError(f"the checkpoint of step {chosen}, the best, is gone from {self.store.folder}")
            state = self.store.load(file)
            self.shards.make_whole()
            task, _ = self.shards.join(state["task"], {}, file.folder)
            self.task.load_trainable_state_dict(task)
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        if self.average is not None:
            self.average.keep()
        return LoopResult(self.progress, self.total_steps, chosen, self.precision, self.history)
