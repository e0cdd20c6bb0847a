"""The page about rephrasing: recipes parse, commands parse, names in it are there."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml

from curate import cli, recipe, rephrasing
from curate.generations import REASONS
from curate.stages.rephrase import Limits, Rephrase

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "rephrasing.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_recipe_parses(snippet: str, tmp_path: Path) -> None:
    nodes = recipe.parse(snippet, root=str(tmp_path)).nodes
    (stage,) = (node.stage for node in nodes if isinstance(node.stage, Rephrase))
    assert stage.asked


def test_the_recipe_shows_the_parameters_that_a_user_sets() -> None:
    (stage,) = (one["rephrase"] for one in yaml.safe_load(SNIPPETS[0])["stages"] if "rephrase" in one)
    told = {*stage, *re.findall(r"`([a-z_]+)(?::[^`]*)?`", PAGE)}
    assert {field.name for field in dataclasses.fields(Rephrase)} <= told
    assert {field.name for field in dataclasses.fields(Limits)} <= {
        *stage["limits"],
        *re.findall(r"`limits\.([a-z_]+)`", PAGE),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    words = shlex.split(command)
    while "=" in words[0]:
        words.pop(0)
    program, *rest = words
    if program == "vllm":
        assert rest[0] == "run-batch"
        assert rest[1::2] == ["-i", "-o", "--model"]
        return
    assert program == "curate"
    options = cli.parser().parse_args(rest)
    assert options.verb
    if "--" in rest:
        assert cli.parser().parse_args(rest[rest.index("--") + 2 :]).verb


def test_both_actions_of_the_verb_are_shown() -> None:
    actions = {shlex.split(command)[2] for command in COMMANDS if command.startswith("curate rephrase")}
    assert actions == {"export", "import"}


def test_reasons_columns_and_files_are_there() -> None:
    for name in REASONS:
        assert f"`{name}`" in PAGE
    for name in (
        "parent",
        "origin",
        "start",
        "end",
        "style",
        "style_version",
        "generator",
        "novel_share",
        "similarity",
    ):
        assert name in rephrasing.ADDED.names
        assert f"`{name}`" in PAGE
    for name in re.findall(r"\]\(([\w.-]+\.md)\)", PAGE):
        assert (ROOT / "docs" / name).exists(), name
