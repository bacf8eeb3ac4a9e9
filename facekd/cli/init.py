"""`facekd init`: four questions, and a recipe that runs."""

import sys
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import typer

from facekd.cli.output import JsonFlag, print_json, print_text
from facekd.common.errors import UsageError
from facekd.common.writing import atomic_file
from facekd.recipes.starter import KNOWN, Answers, Length, Phone, Teacher, student_recipe, teacher_recipe

Kind = TypeVar("Kind", bound=str)

TRAINED: dict[str, Teacher] = {"vit-b": "train-vit-b", "ir50": "train-ir50"}
"""What --teacher may say for a teacher that is trained first."""


SHORT_MARGIN, LONG_MARGIN = ("cosface", 0.2), ("cosface", 0.4)
"""Head and margin where the field has no habit for the faces; a short run has few steps and identities."""


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("init")(init)


def init(
    out: Annotated[Path, typer.Argument(help="Recipe to write, such as my-student.yaml.")],
    faces: Annotated[
        str | None,
        typer.Option(
            help=f"Any data source, or {', '.join(KNOWN)} (expected at data/NAME). unlabelled:FOLDER: no names."
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A bundle or model file; vit-b or ir50 to train one first; none for none.")
    ] = None,
    phone: Annotated[
        str | None, typer.Option(help="Size of the student: fast (51 MMACs), balanced (221) or accurate (438).")
    ] = None,
    length: Annotated[
        str | None, typer.Option(help="short: 600 steps, a try on a CPU; full: 20 epochs, for GPUs.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Number of GPUs. Default: those of this machine.")] = None,
    dev: Annotated[str | None, typer.Option(help="Pairs to choose the checkpoint on, such as lfw_dev.bin.")] = None,
    report: Annotated[str | None, typer.Option(help="Pairs to report on, such as lfw.bin.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recipe.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Write a recipe from four answers: which faces, which teacher, which phone, how long.

    Answers that are not given as options are asked for. With a teacher to train first, its recipe is written beside it.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{out}: give a file that ends in .yaml")
    asked_faces = _answer("--faces", faces, "Faces to train on (a path, or " + ", ".join(KNOWN) + ")", None)
    asked_teacher = _answer("--teacher", teacher, "Teacher (a bundle or model file, vit-b, ir50 or none)", "none")
    size = _choice("--phone", phone, "Student (fast, balanced, accurate)", "balanced", get_args(Phone))
    how_long = _choice("--length", length, "How long (short: a try, full: 20 epochs)", "short", get_args(Length))

    source, identities, images, margin = _faces(asked_faces, how_long)
    kind, path = _teacher(asked_teacher, out)
    if kind in TRAINED.values() and not identities:
        raise UsageError(
            f"--teacher {asked_teacher} is trained on identities, and {source} has none: give a trained one"
        )
    if kind in TRAINED.values() and how_long == "short":
        raise UsageError(
            f"--teacher {asked_teacher} takes days of a GPU to train: give --length full or a trained teacher"
        )
    if kind == "none" and not identities:
        raise UsageError(f"{source} has no identities, so there is nothing to learn from but a teacher: give --teacher")
    answers = Answers(
        name=out.stem,
        source=source,
        identities=identities,
        images=images,
        teacher=kind,
        teacher_path=path,
        margin=margin,
        phone=size,
        length=how_long,
        gpus=_gpus(gpus),
        dev=dev,
        report=report,
    )
    written = {out: student_recipe(answers)}
    if (first := teacher_recipe(answers)) is not None:
        written[out.with_stem(f"{out.stem}-teacher")] = first
    if there := [file for file in written if file.exists() and not overwrite]:
        raise UsageError(f"{there[0]} exists: choose another name, or overwrite it with --overwrite")
    for file, text in written.items():
        with atomic_file(file, overwrite=overwrite) as stream:
            stream.write(text.encode())
    commands = _commands(answers, out)
    if json_output:
        print_json({"recipes": [str(file) for file in written], "commands": commands})
        return
    print_text(f"written: {', '.join(map(str, written))}")
    print_text("next: " + commands[0])
    for command in commands[1:]:
        print_text("then: " + command)


def _answer(option: str, given: str | None, question: str, default: str | None) -> str:
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"give {option}: {question[:1].lower()}{question[1:]}")
    answer: str = typer.prompt(question, default=default)
    return answer


def _choice(option: str, given: str | None, question: str, default: str, valid: tuple[Kind, ...]) -> Kind:
    answer = _answer(option, given, question, default)
    chosen = next((value for value in valid if value == answer), None)
    if chosen is None:
        raise UsageError(f"{option} {answer}: valid are {', '.join(valid)}")
    return chosen


def _faces(text: str, length: Length) -> tuple[str, int, int, tuple[str, float]]:
    """Source, identities, images and margin."""
    if (known := KNOWN.get(text.lower())) is not None:
        margin = known.margin if length == "full" else SHORT_MARGIN
        return f"data/{text.lower()}", known.identities, known.images, margin
    from facekd.data.opening import open_source

    source = open_source(text)
    identities = 0 if text.startswith("unlabelled:") else source.num_identities
    return text, identities, len(source), (SHORT_MARGIN if length == "short" else LONG_MARGIN)


def _teacher(text: str, out: Path) -> tuple[Teacher, str]:
    """Kind and place."""
    if text == "none":
        return "none", ""
    if text in TRAINED:
        return TRAINED[text], f"runs/{out.stem}-teacher/bundle"
    path = Path(text)
    if not path.exists():
        raise UsageError(f"--teacher {text}: no such bundle or model file; give its path, vit-b, ir50 or none")
    if not (path / "card.json").is_file():
        return "embeddings", text
    from facekd.models.architectures.transformer import TransformerTeacher
    from facekd.models.bundle import load_bundle

    return ("transformer" if isinstance(load_bundle(path).model, TransformerTeacher) else "cnn"), text


def _gpus(given: int | None) -> int:
    if given is not None:
        return given
    import torch

    return torch.cuda.device_count()


def _commands(answers: Answers, out: Path) -> list[str]:
    """What to run, in order."""
    run = f"torchrun --nproc-per-node {answers.gpus} -m facekd" if answers.gpus > 1 else "facekd"
    commands = []
    if answers.teacher in TRAINED.values():
        commands.append(f"{run} train {out.with_stem(out.stem + '-teacher')} --out runs/{out.stem}-teacher")
    verb = "train" if answers.teacher == "none" else "distill"
    commands.append(f"{run} {verb} {out} --out runs/{out.stem}")
    return commands
