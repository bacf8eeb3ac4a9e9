"""Shows mkdocstrings the package as it is installed: export/ is facekd.export, benchmarks/ is facekd.benchmarks."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority


@event_priority(100)  # before mkdocstrings reads its own settings
def on_config(config: Any) -> Any:
    """Copies the packages together in a temporary folder, which is where mkdocstrings reads them."""
    root = Path(config["config_file_path"]).parent
    place = Path(tempfile.mkdtemp(prefix="facekd-docs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for source, target in (("facekd", "facekd"), ("export", "facekd/export"), ("benchmarks", "facekd/benchmarks")):
        shutil.copytree(root / source, place / target, ignore=shutil.ignore_patterns("__pycache__"))
    config["plugins"]["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(place)]
    return config
