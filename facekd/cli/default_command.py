"""Groups of commands of which one may be left out: `facekd export BUNDLE` is `facekd export convert BUNDLE`."""

from typing import Any, ClassVar

from typer.core import TyperGroup


class DefaultCommandGroup(TyperGroup):
    """Runs `default_command` where no command is named; a model that has a command's name is given as ./check.

    A subclass sets `default_command`.
    """

    default_command: ClassVar[str]

    # Any: newer typers carry their own click, older ones import it; both hand over the same things.
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands:
            args = [self.default_command, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Options may stand before the models; the group itself has none but --help.
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h"):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)
