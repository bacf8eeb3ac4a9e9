"""A whole run: data, task, loop, and what is made of its end."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.writing import FolderKind, check_replaceable
from facekd.data.opening import load_verification_set, open_source
from facekd.data.source import Source
from facekd.data.verification_set import VerificationSet
from facekd.distillation.build import build_task
from facekd.distillation.check_teacher import teacher_problem
from facekd.distillation.task import DistillationTask
from facekd.distributed import collectives
from facekd.distributed.ranks import restarted
from facekd.evaluation.verification import VerificationResult
from facekd.recipe import DataConfig, Recipe
from facekd.training.checkpoint import CheckpointStore
from facekd.training.distributed import lost_ranks_explained
from facekd.training.finish import RunResult, finish, verify
from facekd.training.log import Reporter
from facekd.training.loop import Trainer
from facekd.training.reproducibility import seed_everything
from facekd.training.stream import BatchStream
from facekd.training.trackers import DEFAULT, Callback

_MADE_BY_A_RUN = re.compile(
    r"log\.jsonl|result\.json|recipe\.yaml|bundle/[^/]+\.(safetensors|json|md)|checkpoints/\.?[^/]*(step-|writing-).*"
    r"|tensorboard/(.*/)?events\.out\.tfevents\..*"
    r"|wandb/.*"
)
RUN = FolderKind("a training run", lambda folder: lambda name: _MADE_BY_A_RUN.fullmatch(name) is not None)
_LEFT_BY_A_KILL = (".bundle.", ".log.jsonl.", ".result.json.", ".writable")


def run_recipe(
    recipe: Recipe,
    *,
    out: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    resume_command: str = "the same command with --resume",
    trackers: Sequence[str | Callback] = DEFAULT,
) -> RunResult:
    """Runs a recipe from its data to the bundle in `out`.

    Args:
        recipe: complete: recipe, seed and data are the run.
        out: new or empty folder; gets `bundle/`, `checkpoints/`, `log.jsonl`, `recipe.yaml`, `result.json`.
        resume: go on from the newest checkpoint in `out`; starts from nothing if there is none yet.
        overwrite: delete what an earlier run left in `out`.
        reporter: where progress goes; default stderr.
        resume_command: what to tell somebody who interrupts.
        trackers: where the figures go besides `log.jsonl`: names of facekd.training.trackers, or functions of a step
            and its figures.

    In a process that torchrun started (see facekd.distributed.ranks.process_group) this is one rank of the run: rank 0
    alone makes and writes what `out` gets, and every rank returns its result. A run that torchrun restarts resumes.

    Raises:
        UsageError: something the recipe names is not there or does not fit; `out` is not empty.
        Interrupted: stopped by a signal, after saving.
        FacekdError: see `Trainer.run`.
    """
    out = Path(out)
    reporter = _reporter(reporter)
    if restarted():
        resume, overwrite = True, False
    check_teacher_is_there(recipe)
    with lost_ranks_explained(out, resume_command):
        if collectives.rank() == 0:
            _prepare(out, resume=resume, overwrite=overwrite)
        collectives.from_first(None)  # the others wait for the folder
        return _run_recipe(
            recipe, out, resume=resume, reporter=reporter, resume_command=resume_command, trackers=trackers
        )


def _run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    reporter: Reporter,
    resume_command: str,
    trackers: Sequence[str | Callback],
) -> RunResult:
    source = open_recipe_source(recipe.data)
    pairs = _open_pairs(recipe)  # before the training, so that a wrong path does not show hours later
    seed_everything(recipe.seed)
    task = build_task(recipe, source)
    if not (resume and CheckpointStore(out / "checkpoints").list()):
        check_teacher_input(recipe, task, source)
    if collectives.rank() == 0:
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
        (out / "recipe.yaml").write_text(text, encoding="utf-8")
    return run(
        recipe,
        task,
        source,
        out=out,
        pairs=pairs,
        resume=resume,
        reporter=reporter,
        resume_command=resume_command,
        trackers=trackers,
    )


def run(
    recipe: Recipe,
    task: DistillationTask,
    source: Source,
    *,
    out: Path,
    pairs: Mapping[str, VerificationSet] | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    resume_command: str = "the same command with --resume",
    trackers: Sequence[str | Callback] = DEFAULT,
) -> RunResult:
    """Trains `task`, evaluates the best weights and writes the bundle; see `run_recipe`.

    Args:
        pairs: the verification sets the recipe names, by the name it gives them; default: opened here.
    """
    reporter = _reporter(reporter)
    pairs = _open_pairs(recipe) if pairs is None else pairs
    dev = pairs.get(recipe.evaluation.dev) if recipe.evaluation.dev else None

    dev_results: dict[int, VerificationResult] = {}

    def dev_figures(student: nn.Module, step: int) -> dict[str, float]:
        assert dev is not None
        result = dev_results[step] = verify(student, task.student_input, dev)
        figures = {"accuracy": result.accuracy, "auc": result.auc, "seconds": result.seconds or 0.0}
        if result.std is not None:
            figures["std"] = result.std
        if (teacher := task.learning_teacher) is not None and recipe.evaluation.teacher:
            learnt = verify(teacher, teacher.input, dev)
            figures |= {"teacher_accuracy": learnt.accuracy, "teacher_auc": learnt.auc}
        return figures

    trainer = Trainer(
        recipe,
        task,
        BatchStream(recipe, source),
        out=out,
        evaluate=dev_figures if dev is not None else None,
        reporter=reporter,
        resume_command=resume_command,
        trackers=trackers,
    )
    loop = trainer.run(resume=resume)
    if collectives.rank() > 0:
        result: RunResult = collectives.from_first(None)
        return result
    dev_result = dev_results.get(loop.chosen_step)
    if dev is not None and dev_result is None:  # chosen in an earlier session
        dev_result = verify(task.student, task.student_input, dev)
    result = finish(recipe, task, source, loop, out=out, dev=dev_result, pairs=pairs, reporter=reporter)
    returned: RunResult = collectives.from_first(result)
    return returned


def check_teacher_is_there(recipe: Recipe) -> None:
    """Refuses a recipe whose teacher is missing before anything is made, opened or drawn.

    A named kind of teacher may open something else than a path: it is asked later.

    Raises:
        UsageError: nothing lies at `teacher.bundle`.
    """
    needed = bool(recipe.distillation) or (recipe.head.init == "teacher" and recipe.head.weight > 0)
    if not needed or recipe.teacher is None or recipe.teacher.name is not None:
        return
    place = Path(recipe.teacher.bundle)
    if not place.exists():
        first = ", or run `facekd quickstart` first, which trains it" if place.parts[0] == "quickstart" else ""
        raise UsageError(f"no bundle or model file at {place}, the recipe's teacher: give --teacher{first}")


def check_teacher_input(recipe: Recipe, task: DistillationTask, source: Source) -> None:
    """Whether the teacher is fed as it was trained: by rank 0, whose answer all ranks get. Nothing is written before.

    Raises:
        UsageError: another usual way to feed it separates the people of `source` clearly better.
    """
    if recipe.teacher is None or task.teacher is None:
        return
    problem = None
    if collectives.rank() == 0:
        problem = teacher_problem(task.teacher, recipe.teacher, source, progress=True)
    if (problem := collectives.from_first(problem)) is not None:
        raise UsageError(problem)


def _reporter(given: Reporter | None) -> Reporter:
    """Rank 0's; the others say nothing."""
    return given or Reporter() if collectives.rank() == 0 else Reporter(Console(quiet=True))


def open_recipe_source(data: DataConfig) -> Source:
    """The training faces a recipe names, within its limits."""
    source = open_source(
        data.source,
        max_identities=data.max_identities,
        max_images=data.max_images_per_identity,
        min_images=data.min_images_per_identity if data.min_images_per_identity > 1 else None,
    )
    if source.num_identities < 2:
        raise UsageError(f"{data.source} has {source.num_identities} identity within the limits: training needs two")
    return source


def _open_pairs(recipe: Recipe) -> dict[str, VerificationSet]:
    names: Sequence[str] = [*([recipe.evaluation.dev] if recipe.evaluation.dev else []), *recipe.evaluation.report]
    return {name: load_verification_set(name) for name in names}


def _prepare(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Makes `out`, or refuses it. Only what a run makes is ever deleted."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other: give one")
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file: give a folder")
        present = sorted(path.name for path in out.iterdir()) if out.exists() else []
        for name in [name for name in present if name.startswith(_LEFT_BY_A_KILL)]:
            _delete(out / name)
            present.remove(name)
        if present and not resume and not overwrite:
            raise UsageError(f"--out {out} is not empty ({present[0]}, ...): add --resume or --overwrite")
        if overwrite:
            check_replaceable(out, RUN, overwrite=True)
            for name in present:
                _delete(out / name)
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FacekdError(f"cannot write to --out {out}: {error.strerror or error}") from error


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
