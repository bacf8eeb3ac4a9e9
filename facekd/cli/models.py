"""`facekd models`: list models, import teachers, push bundles to the Hub and pull them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.parsing import parse_stated_input

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")]


def register(app: typer.Typer) -> None:
    """Adds the verb to `app`."""
    models = typer.Typer(help="List models; import a teacher; push or pull a bundle.", rich_markup_mode=None)
    models.callback(invoke_without_command=True)(default)
    models.command("list")(list_verb)
    models.command("import")(import_verb)
    models.command("push")(push)
    models.command("pull")(pull)
    app.add_typer(models, name="models")


def default(context: typer.Context, json_output: JsonFlag = False) -> None:
    """List models; import a teacher; push or pull a bundle."""
    if context.invoked_subcommand is None:
        list_verb(json_output)


def list_verb(json_output: JsonFlag = False) -> None:
    """List every registered model with its size and cost at 112x112."""
    from facekd.models.catalogue import catalogue

    rows = catalogue()
    if json_output:
        print_json({"models": [asdict(row) for row in rows]})
        return
    print_table(
        "Models at 112x112, default arguments",
        ["name", "role", "params", "MMACs", "embedding", "grid"],
        [
            (
                row.name,
                row.role,
                f"{row.parameters / 1e6:.3f}M",
                f"{row.macs / 1e6:.1f}",
                row.embedding_width,
                f"{row.grid[0]}x{row.grid[1]}",
            )
            for row in rows
        ],
        caption="Also: timm/<name> for any timm CNN as a student, package.module:function for your own model.",
    )


def import_verb(
    weights: Annotated[
        Path, typer.Argument(help="A checkpoint: .safetensors (or the .index.json of shards) or a PyTorch file.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Teacher bundle to write, a folder.")],
    description: Annotated[
        Path | None,
        typer.Option("--description", help="JSON file that describes the teacher's architecture and input."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Insist on a layout: arcface-vit (LVFace too), arcface-iresnet, adaface-ir, cvlface-vit, cvlface-ir, "
            "cvlface-swinv2, transface, edgeface, timm-vit, timm-swin, timm-swinv2, timm-eva, or timm/NAME for a "
            "Transformer by its name in timm. Default: recognised by names and shapes.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Which weights to take of a file that holds several: state_dict, model_ema, ..."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option("--heads", help="Attention heads, if neither shapes nor known sizes tell them.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Side of the images in pixels, if the file does not tell it.")
    ] = None,
    colour: Annotated[
        str | None, typer.Option("--colour", help="RGB or BGR, that it was trained on. Default: the layout's.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Of its input, on 0 to 255: one number, or three comma-separated.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", help="Deviation of its input, as --mean.")] = None,
    head_scale: Annotated[
        float | None, typer.Option("--head-scale", help="Scale of the margin head, if the file holds class centres.")
    ] = None,
    head_margin: Annotated[float | None, typer.Option("--head-margin", help="Margin of the margin head.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", help="Data set whose label order the class centres follow; its fingerprint is stored."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the bundle. Default: the file name.")] = None,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Import a teacher's weights as a bundle; every weight must match.

    facekd models import LVFace-T_Glint360K.pt --out teacher
    facekd models import swin_teacher.safetensors --description swin_teacher.json --out teacher
    """
    from facekd.models.importing import import_teacher
    from facekd.schemas.card import read_card

    fingerprint, identities = None, None
    if labels is not None:
        from facekd.data.opening import open_source

        source = open_source(labels)
        fingerprint, identities = source.fingerprint(), source.num_identities
    import_teacher(
        weights,
        out,
        description=description,
        layout=layout,
        key=key,
        heads=heads,
        image_size=image_size,
        stated=parse_stated_input(colour=colour, mean=mean, std=std),
        head_scale=head_scale,
        head_margin=head_margin,
        labels=fingerprint,
        num_identities=identities,
        name=name,
        overwrite=overwrite,
    )
    card = read_card(out)
    if json_output:
        print_json({"path": out, "card": card})
    else:
        print_text(f"{out}: teacher {card.name}, {card.parameters:,} parameters, embedding {card.embedding_width}")
        if description is None and card.notes:
            print_text(card.notes)


def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    repo: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Create a public repository; the default is private.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Upload a bundle to the Hugging Face Hub."""
    from facekd.models.hub import push_bundle

    address = push_bundle(bundle, repo, private=not public)
    if json_output:
        print_json({"path": bundle, "repo": repo, "commit": address})
    else:
        print_text(f"{bundle} -> {address}")


def pull(
    repo: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub.")],
    out: Annotated[Path, typer.Option("--out", help="Bundle to write, a folder.")],
    revision: Annotated[str | None, typer.Option("--revision", help="A branch, tag or commit.")] = None,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Download a bundle from the Hugging Face Hub and verify it."""
    from facekd.models.hub import pull_bundle
    from facekd.schemas.card import read_card

    pull_bundle(repo, out, revision=revision, overwrite=overwrite)
    if json_output:
        print_json({"path": out, "repo": repo, "card": read_card(out)})
    else:
        print_text(f"{repo} -> {out}")
