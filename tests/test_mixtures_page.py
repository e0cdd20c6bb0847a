"""The page about mixtures: every snippet is planned, every refusal is the real one, every command parses."""

import ast
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate import cli, mixture, proxy, recipe
from curate.fit import ablation, ablation_verb, designs, partition, projektor, result, runs, tables, utility, weights
from curate.mixture import Available, Infeasible
from curate.stages.mix import TARGETS, Mix, token_count

PAGE = (Path(__file__).parents[1] / "docs" / "mixtures.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
REFUSED = re.findall(r"^```yaml refused\n(.*?)^```.*?^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
HELD = {name: int(tokens) for name, tokens in re.findall(r"^\| ([a-z]+) \| ([0-9]+) \|$", PAGE, re.MULTILINE)}
SAMPLES = dict(re.findall(r"^```(?:csv|json) (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
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


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_table_is_read_as_the_page_shows_it(samples: Path) -> None:
    def at(name: str) -> str:
        return str(samples / name)

    joined = runs.read_runs(at("mixtures.csv"), at("losses.csv"))
    assert (joined.warnings, joined.mixtures.names, len(joined.mixtures.index)) == ((), tuple(HELD), 2)
    assert {one.unique for one in utility.read_runs(at("buckets.csv"))} == {HELD["docs"]}
    left_out = tables.read(at("left-out.csv"))
    assert [row["without"] for row in left_out.rows] == ["", "docs"]
    assert left_out.number(1, "loss") > left_out.number(0, "loss")
    measured = projektor.read_measured(at("sizes.csv"))
    assert measured.names == ("code", "docs", "readme")
    assert measured.distances is not None
    for read, name in ((weights.read_excess, "excess.csv"), (weights.read_alignment, "alignment.csv")):
        assert read(at(name)).names == ("code", "docs")


def test_models_and_what_a_command_prints_are_taken(samples: Path) -> None:
    (command,) = [one for one in COMMANDS if "ablation search" in one]
    words = shlex.split(command.replace("models.json", str(samples / "models.json")))[1:]
    scorer = ablation_verb._scorer(cli.parser().parse_args(words))
    assert scorer.models["code/1"] == str(samples / "code-1.safetensors")
    printing = shlex.join([sys.executable, "-c", f"print({SAMPLES['printed'].strip()!r})"])
    assert ablation.measure(printing, "model") == {"docs": 3.2964, "code": 2.671}


def test_every_file_of_a_fit_is_shown_and_written_once() -> None:
    fits = [command for command in COMMANDS if command.startswith("curate fit")]
    written = [re.findall(r" -o (\S+)", command)[0] for command in fits]
    assert len(set(written)) == len(written)
    named = {word for command in fits for word in shlex.split(command) if re.fullmatch(r"[\w-]+\.(csv|json)", word)}
    assert named - set(written) == SAMPLES.keys() - {"mixtures.csv", "printed"}


def test_budgets_of_fits_can_be_had_of_the_documents() -> None:
    options = {}
    for command in COMMANDS:
        if command.startswith("curate fit"):
            said = cli.parser().parse_args(shlex.split(command)[1:])
            options[" ".join(shlex.split(command)[2:4])] = said
    asked = options["regmix design"]
    where = designs.space(HELD, tokens=token_count(asked.tokens), max_epochs=asked.max_epochs)
    designs.design(where, asked.runs, seed=asked.seed)
    size = token_count(options["ablation partition"].tokens)
    assert size is not None
    assert max(HELD.values()) >= 2 * size
    (shown,) = [snippet for snippet in SNIPPETS if "bucket: part" in snippet]
    assert yaml.safe_load(shown) == [partition.step({"size": size, "parts": ["code/0", "code/1"]})]
    left = token_count(options["ablation leave-out"].tokens)
    assert left is not None
    for mixture_ in ablation.left_out({"docs": 0.5, "code": 0.3, "readme": 0.2}).values():
        assert designs.most_epochs(mixture_, HELD, tokens=left) <= 4


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
