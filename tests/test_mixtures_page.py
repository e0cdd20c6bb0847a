"""The page about mixtures: every snippet is planned, every refusal is the real one, every command parses."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate import cli, mixture, proxy, recipe
from curate.fit import result
from curate.mixture import Available, Infeasible
from curate.stages.mix import TARGETS, Mix

PAGE = (Path(__file__).parents[1] / "docs" / "mixtures.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
REFUSED = re.findall(r"^```yaml refused\n(.*?)^```.*?^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
HELD = {name: int(tokens) for name, tokens in re.findall(r"^\| ([a-z]+) \| ([0-9]+) \|$", PAGE, re.MULTILINE)}
BUCKETS = ("high", "low", "0", "1")


def planned(snippet: str, root: Path) -> tuple[Mix, mixture.Plan]:
    """The step of a snippet, and its plan for the documents of the page; a bucket has a quarter of its source."""
    raw = {"ingest": {"files": "a", "source": "b"}, "stages": yaml.safe_load(snippet)}
    (node,) = recipe.parse(yaml.safe_dump(raw, sort_keys=False), root=str(root)).nodes
    method = node.stage
    assert isinstance(method, Mix)
    have = {name: Available(tokens) for name, tokens in HELD.items()}
    if method.bucket:
        have = {f"{name}/{b}": Available(tokens // 4, source=name) for name, tokens in HELD.items() for b in BUCKETS}
    return method, method.plan(have)


@pytest.fixture
def fits(tmp_path: Path) -> Path:
    result.write(str(tmp_path / "shares.json"), "regmix", {"docs": 0.5, "code": 0.3, "readme": 0.2}, {})
    worth = {"docs": 0.5, "code": 0.2, "readme": 0.3}
    result.write(str(tmp_path / "worth.json"), "utility", worth, {}, half_lives={"readme": 1.5})
    return tmp_path


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_is_a_plan(snippet: str, fits: Path) -> None:
    method, made = planned(snippet, fits)
    (stage,) = yaml.safe_load(snippet)
    asked = stage["mix"]
    if "tokens" in asked:
        assert made.tokens == method.spec().tokens
    assert set(made.phases) == {phase["name"] for phase in asked.get("phases", [{"name": "all"}])}
    for group, epochs in made.epochs().items():
        assert epochs * made.available[group].tokens <= made.allowed[group]


def test_every_target_is_shown() -> None:
    shown: set[str] = set()
    for snippet in SNIPPETS:
        asked: dict[str, Any] = yaml.safe_load(snippet)[0]["mix"]
        shown |= {name for one in (asked, *asked.get("phases", ())) for name in one}
    assert {*TARGETS, "rest", "share", "bucket", "max_epochs", "at_cap"} <= shown


def test_a_half_life_on_the_page_repeats_less(fits: Path) -> None:
    (with_one,) = [snippet for snippet in SNIPPETS if "half_life" in snippet]
    _, short = planned(with_one, fits)
    _, usual = planned(with_one.replace("{worth: 3, half_life: 1.5}", "3"), fits)
    assert short.drawn["readme"] < usual.drawn["readme"]


def test_the_refusal_is_the_real_one(fits: Path) -> None:
    assert len(REFUSED) == 1
    for snippet, said in REFUSED:
        with pytest.raises(Infeasible) as refused:
            planned(snippet, fits)
        assert " ".join(said.split()) == f"curate: {refused.value}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "curate"
    assert cli.parser().parse_args(words).verb


def test_the_calls_of_the_proxy_are_there() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    used = {
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "proxy"
    }
    assert used == {"read", "train", "weighted", "phase"}
    assert all(callable(getattr(proxy, name)) for name in used)


def test_files_that_are_named_are_there() -> None:
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:bench|flows|schemas)/[\w/.-]+)`", PAGE) + re.findall(r"\]\(([\w.-]+\.md)\)", PAGE):
        assert (root / name).exists() or (root / "docs" / name).exists(), name
