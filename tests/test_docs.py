"""What is written about the project is true: the README, the schemas, the recipes."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml
from corpus import write_corpus, write_recipe

from curate import cli, expressions, ledger, recipe, schema, signals
from curate.outputs import outputs
from curate.run import run
from curate.stages import STAGES
from curate.stages.clean import Clean
from curate.stages.code import Code
from curate.stages.exact import Exact
from curate.stages.language import Language

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COLUMNS = (ROOT / "docs" / "columns.md").read_text()
RECIPES = sorted((ROOT / "flows" / "recipes").glob("*.yaml"))


def test_the_recipe_in_the_readme_is_the_recipe() -> None:
    (shown,) = re.findall(r"```yaml\n(name: demo.*?)```", README, re.DOTALL)
    told = (ROOT / "flows/recipes/demo.yaml").read_text()
    assert shown == told[told.index("name: demo") :]


def test_every_stage_stands_in_the_readme_and_in_a_recipe() -> None:
    used = {next(iter(stage)) for path in RECIPES for stage in yaml.safe_load(path.read_text())["stages"]}
    for stage in STAGES:
        assert f"| `{stage.kind}` |" in README
        assert stage.kind in used


def test_every_verb_stands_in_the_readme() -> None:
    actions = cli.parser()._subparsers._group_actions  # type: ignore[union-attr]
    verbs = set(actions[0].choices)  # type: ignore[arg-type]
    assert {match.split()[0] for match in re.findall(r"`curate ([a-z-]+)", README)} >= verbs


def test_every_column_and_every_rule_set_stands_in_the_list_of_columns() -> None:
    stages = (Code(parse=True), Language(paragraphs=True), Clean(steps=("c4",)), Exact())
    added = {name for stage in stages for name in stage.adds}
    for name in {*signals.columns(signals.FAMILIES), *added, *expressions.bundles()}:  # type: ignore[arg-type]
        assert re.search(rf"^\| `{name}` \|", COLUMNS, re.MULTILINE), name


def test_the_list_of_columns_names_the_rule_sets_that_compare_them() -> None:
    compared: dict[str, set[str]] = {}
    for rules in expressions.bundles():
        for condition in expressions.bundle(rules).values():
            for name in expressions.columns(condition):
                compared.setdefault(name, set()).add(rules)
    rows = re.findall(r"^\| `(\S+)` \| [^|]+ \| [^|]+ \| ([^|]*?) ?\|$", COLUMNS, re.MULTILINE)
    assert compared.keys() <= {name for name, _ in rows}
    for name, said in rows:
        assert set(filter(None, said.split(", "))) == compared.get(name, set()), name


def test_the_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse_and_fit_the_schema(path: Path) -> None:
    assert recipe.load(str(path)).nodes
    jsonschema.validate(yaml.safe_load(path.read_text()), schema.schema("recipe"))


@pytest.mark.parametrize("name", schema.NAMES)
def test_schema_files_are_current(name: str) -> None:
    assert (ROOT / "schemas" / f"{name}.json").read_text() == schema.text(name)
    jsonschema.Draft202012Validator.check_schema(schema.schema(name))


def test_schemas_refuse() -> None:
    raw = {"ingest": {"files": "a", "source": "b"}, "stages": [{"exat": {}}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, schema.schema("recipe"))


def test_what_a_run_writes_fits_the_schemas(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    path = write_recipe(tmp_path)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema.schema("recipe"))
    run(recipe.load(str(path)), str(tmp_path / "run"))
    for file in (tmp_path / "run").rglob("manifest.json"):
        jsonschema.validate(json.loads(file.read_text()), schema.schema("manifest"))
    for file in (tmp_path / "run").rglob("tokens.json"):
        jsonschema.validate(json.loads(file.read_text()), schema.schema("tokens"))
    for file in (tmp_path / "run").rglob("ledger.parquet"):
        table = pq.read_table(file)
        assert table.schema.equals(ledger.SCHEMA)
        for row in table.to_pylist():
            jsonschema.validate(row, schema.schema("ledger"))
    first = outputs(str(tmp_path / "run"))["stages"][0]
    for row in pq.read_table(first["shards"][0]).to_pylist()[:20]:
        shown: dict[str, Any] = {**row, "id": row["id"].hex()}
        jsonschema.validate(shown, schema.schema("document"))


def test_nothing_names_a_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *RECIPES, *ROOT.glob("schemas/*.json")]:
        assert not re.search(r"(?<![\w.])/(home|root|work|Users|opt)/", path.read_text()), path
