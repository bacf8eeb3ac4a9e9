"""The files around the code that no other test reads: the hosted workflow, pre-commit, CITATION.cff, issue forms."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from facekd import __version__

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Any:
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), yaml.BaseLoader)


def test_the_workflow_is_valid_and_runs_ci() -> None:
    """By GitHub's schema: each job has a machine and steps, and each step either uses an action or runs a command."""
    workflow = load(".github/workflows/ci.yml")
    assert set(workflow) == {"name", "on", "permissions", "jobs"}
    assert set(workflow["on"]) == {"push", "pull_request"}
    jobs = workflow["jobs"]
    for job in jobs.values():
        assert set(job) <= {"name", "runs-on", "container", "timeout-minutes", "strategy", "steps"}
        assert job["runs-on"].endswith("-latest")
        for step in job["steps"]:
            assert len({"uses", "run"} & set(step)) == 1 and set(step) <= {"uses", "run", "with", "name"}
            assert "@v" in step.get("uses", "@v")
    assert jobs["all"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {"run": ".ci/run"} in jobs["all"]["steps"]
    assert jobs["coreml"]["runs-on"] == "macos-latest"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert command.startswith("pip install") and f"$ {command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_pre_commit_checks_format_lint_and_types() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert set(hooks) == {"ruff-format", "ruff", "mypy"}
    assert all({"id", "name", "entry", "language"} <= set(hook) for hook in hooks.values())


def test_the_citation_is_of_this_version() -> None:
    citation = load("CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "references"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["references"][0]["doi"] == "10.1145/3581783.3611711"


@pytest.mark.parametrize("form", ["bug", "addition"])
def test_an_issue_form_has_what_github_asks_for(form: str) -> None:
    content = load(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= set(content)
    for field in content["body"]:
        assert field["type"] in ("textarea", "input", "checkboxes", "dropdown", "markdown")
        assert field["attributes"]["label"]
    assert len({field["id"] for field in content["body"]}) == len(content["body"])
