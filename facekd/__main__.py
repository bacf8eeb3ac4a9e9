"""`python -m facekd` is the `facekd` command."""

from facekd.cli import main

if __name__ == "__main__":
    main()
