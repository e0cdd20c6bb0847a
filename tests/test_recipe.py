"""Recipes: what is right becomes stages, what is wrong is named by line, stage and the nearest word before any work."""

import pickle
from pathlib import Path

import pytest

from curate.errors import RecipeError
from curate.recipe import load, parse
from curate.stages.exact import Exact
from curate.stages.ingest import Field, Input, Normalize
from curate.stages.pack import Pack
from curate.stages.select import Select
from curate.stages.tokenize import Tokenize

INGEST = "ingest: {files: 'raw/*.jsonl', source: web}\n"


def read(text, root="/corpus"):
    return parse(text, root=root)


def stages(text):
    return read(INGEST + "stages:\n" + text)


def test_a_whole_recipe():
    made = read(
        """
name: small
ingest:
  - files: raw/web/*.jsonl
    text: content
    source: web
    normalize: {form: NFKC}
    shard_bytes: 1000
  - files: [books, more.parquet]
    source: {field: shelf}
stages:
  - exact
  - exact: {among: bytes > 5, name: long}
  - select:
      keep: {new: not duplicate}
    name: first
  - tokenize: {tokenizer: assets/tokenizer.json}
    from: first
  - pack: {window: 16, formats: [parquet]}
"""
    )
    assert (made.name, made.root) == ("small", "/corpus")
    assert made.ingest.inputs == (
        Input(files=("raw/web/*.jsonl",), source="web", text="content", normalize=Normalize(form="NFKC")),
        Input(files=("books", "more.parquet"), source=Field("shelf")),
    )
    assert made.ingest.shard_bytes == 1000
    assert [node.stage for node in made.nodes] == [
        Exact(),
        Exact(among="bytes > 5"),
        Select(keep={"new": "not duplicate"}),
        Tokenize("/corpus/assets/tokenizer.json"),
        Pack(16, formats=("parquet",)),
    ]
    assert [node.name for node in made.nodes] == ["exact", "long", "first", "tokenize", "pack"]
    assert [node.source for node in made.nodes] == [None, None, None, "first", None]
    assert [node.line for node in made.nodes] == [12, 13, 14, 17, 19]
    # Columns of a named annotator bear its name; rows have no columns of their own.
    assert [node.prefix for node in made.nodes] == ["", "long_", "", "", ""]


def test_a_recipe_without_a_name_and_with_plain_aliases():
    made = stages("  - exact: {among: &long bytes > 5}\n  - select: {keep: {long: *long}}\n")
    assert made.name == "recipe"
    assert made.nodes[1].stage == Select(keep={"long": "bytes > 5"})


@pytest.mark.parametrize(
    ("location", "made"),
    [
        ("a/b.json", "/corpus/a/b.json"),
        ("../b.json", "/b.json"),
        ("/else/b.json", "/else/b.json"),
        ("s3://bucket/b.json", "s3://bucket/b.json"),
        ("package:tokens/b.json", "package:tokens/b.json"),
        ("hub:some/model@main", "hub:some/model@main"),
    ],
)
def test_assets_are_relative_to_the_recipe(location, made):
    assert stages(f"  - tokenize: {{tokenizer: '{location}'}}\n").nodes[0].stage.tokenizer == made


WRONG_INGEST = {
    "sorce: web": r"line 3: ingest: unknown parameter 'sorce'; did you mean 'source'\?",
    "source: web\n  txet: body": r"line 4: ingest: unknown parameter 'txet'; did you mean 'text'\?",
    "source: web\n  limmit: 4": r"line 4: ingest: unknown parameter 'limmit'; did you mean 'limit'\?",
    "source: {feild: x}": r"line 3: ingest: unknown parameter 'source.feild'; did you mean 'field'\?",
    "source: 3": "line 3: ingest: `source`: input should be a valid string, found 3",
    "text: body": "line 1: ingest: needs `source:`",
    "source: web\n  format: jsonlines": "line 4: ingest: `format`: input should be .*'jsonl'.*, found 'jsonlines'",
    "source: web\n  normalize: {form: NFQ}": "line 4: ingest: `normalize.form`: input should be 'NFC'.* found 'NFQ'",
    "source: web\n  normalize: {from: NFC}": r"line 4: ingest: .* 'normalize.from'; did you mean 'form'\?",
    "source: web\n  shard_bytes: 1.5": "line 4: ingest: `shard_bytes`: input should be a valid integer, found 1.5",
    "source: web\n  shard_bytes: 0": "line 1: ingest: `shard_bytes` is a positive number of bytes, found 0",
    "source: web\n  max_rejects: .nan": "line 1: ingest: `max_rejects` is a share from 0 to 1, found nan",
    "source: web\n  source: books": "line 4: 'source' stands here a second time",
}


@pytest.mark.parametrize("lines", WRONG_INGEST)
def test_a_wrong_ingest_is_named(lines):
    with pytest.raises(RecipeError, match=WRONG_INGEST[lines]):
        read(f"ingest:\n  files: a.jsonl\n  {lines}\nstages: [exact]\n")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("  - {files: a, source: b}\n  - {files: c, text: d}", "line 3: ingest: needs `source:`"),
        ("  - {files: a, source: b}\n  - {files: 3, source: b}", "line 3: ingest: `files`: .* found 3"),
        ("  - {files: [], source: b}", "line 1: ingest: `files` names no file"),
        ("  - {files: a, source: b, limit: 1}\n  - {files: c, source: d, limit: 2}", "line 3: .*`limit`.* was 1"),
        ("  - a.jsonl", "`ingest:` is a mapping"),
    ],
)
def test_a_wrong_list_of_inputs_is_named(lines, message):
    with pytest.raises(RecipeError, match=message):
        read(f"ingest:\n{lines}\nstages: [exact]\n")


# Each stands on line 3, or below it, of a recipe whose stages begin there.
WRONG_STAGES = {
    "- exakt:": r"line 3: stages\[0\]: no stage is called 'exakt'; did you mean 'exact'\?",
    "- exact:\n- zzz:": r"line 4: stages\[1\]: no stage is called 'zzz'; stages are clean,",
    "- exact:\n  select: {keep: {a: b > 1}}": r"line 3: stages\[0\]: one stage each line .* \['exact', 'select'\]",
    "- name: a": r"line 3: stages\[0\]: one stage each line .* none",
    "- 3": r"line 3: stages\[0\]: a stage is `KIND:` with parameters, found 3",
    "- [exact]": r"line 3: stages\[0\]: a stage is `KIND:` with parameters",
    "-": r"line 3: stages\[0\]: a stage is `KIND:` with parameters, found None",
    "- exact: 3": r"line 3: stages\[0\] 'exact': parameters are a mapping, found 3",
    "- exact:\n    amongst: a > 1": r"line 4: stages\[0\] 'exact': unknown parameter 'amongst'; did you mean 'among'\?",
    "- pack:\n    window: many": r"line 4: stages\[0\] 'pack': `window`: input should be a valid integer, found 'many'",
    "- pack:\n    window: '128'": r"line 4: stages\[0\] 'pack': `window`: input should be a valid integer, found '128'",
    "- pack:\n    windw: 128": r"line 4: stages\[0\] 'pack': unknown parameter 'windw'; did you mean 'window'\?",
    "- pack:\n    tail: pad": r"line 3: stages\[0\] 'pack': needs `window:`",
    "- pack:\n    window: 8\n    packing: best": r"line 5: stages\[0\] 'pack': `packing`: .* 'best_fit', found 'best'",
    "- pack:\n    window: 8\n    formats: [numpy]": r"line 5: stages\[0\] 'pack': `formats.0`: .* found 'numpy'",
    "- mix: {tokens: 4M, unimax: 3}": r"line 3: stages\[0\] 'mix': `unimax` belongs to a phase.*name: all, unimax: ...",
    "- mix: {counts: {web: 4M}, rest: code}": r"'mix': `(counts|rest)` belongs to a phase",
    "- pack: {window: 8, facts: {}}": r"line 3: stages\[0\] 'pack': unknown parameter 'facts'",
    "- pack: {window: 1}": r"line 3: stages\[0\] 'pack': `window` is 1; it is at least 2 ids",
    "- tokenize:\n    tokenizer: a\n    engine: fast": r"line 5: stages\[0\] 'tokenize': `engine`: .* found 'fast'",
    "- select:": r"line 3: stages\[0\] 'select': nothing to select by: give `keep:` or `rules:`",
    "- select: {keep: {a: words >}}": r"line 3: stages\[0\] 'select': cannot read the expression `words >`",
    "- select: {keep: {a: words > max(words)}}": r"line 3: stages\[0\] 'select': .* looks at many rows at once",
    "- select: {keep: {'a b': words > 1}}": r"line 3: stages\[0\] 'select': a rule's name has letters.* 'a b'",
    "- select: {keep: [words > 1]}": r"line 3: stages\[0\] 'select': `keep`: .* found \['words > 1'\]",
    "- select: {rules: [gopher_qualiti]}": r"line 3: stages\[0\] 'select': .*; did you mean 'gopher_quality'\?",
    "- mix:\n    weights: {web: -1}": r"line 3: stages\[0\] 'mix': the weight of 'web' is -1.0",
    "- mix: {weights: {web: 1}, temperature: 2}": r"line 3: stages\[0\] 'mix': give `weights` or `temperature`",
    "- mix: {tokens: lots}": r"line 3: stages\[0\] 'mix': `tokens` is 'lots'; a budget is",
    "- mix: {tokens: [1]}": r"line 3: stages\[0\] 'mix': `tokens`: .* found \[1\]",
    "- mix: {max_epochs: .inf}": r"line 3: stages\[0\] 'mix': `max_epochs` is inf",
    "- mix: {max_epochs: 1e-3}": "`max_epochs`: input should be a valid number, found '1e-3', .* word .* write 0.001$",
    "- mix: {max_epochs: yes}": r"line 3: stages\[0\] 'mix': `max_epochs`: input should be a valid number, found True",
    "- mix: {seed: 99999999999999999999}": r"line 3: stages\[0\] 'mix': `seed` is 99999999999999999999",
    "- exact:\n- exact:": r"line 4: 'exact' is taken by line 3; give this stage a `name:`",
    "- exact: {name: ingest}": "line 3: 'ingest' is taken by the raw documents",
    "- exact: {name: a/b}": r"line 3: stages\[0\] 'exact': a name has letters, digits and _, found 'a/b'",
    "- exact: {name: 3}": r"line 3: stages\[0\] 'exact': a name has letters, digits and _, found 3",
    "- exact: {name: a1}\n- heuristics:\n  from: 1a": r"line 4: .* '1a', no stage before it; before it are ingest, a1",
    "- exact: {name: first}\n- heuristics:\n  from: frist": r"line 4: .* 'frist', .*; did you mean 'first'\?",
    "- exact:\n  from: exact": "line 3: 'exact' is from 'exact', no stage before it; before it are ingest",
    "- exact:\n  from: 3": r"line 3: stages\[0\] 'exact': `from:` is the name of one stage, found 3",
    "- exact:\n  from: [a, b]": r"line 3: stages\[0\] 'exact': `from:` is the name of one stage, found \['a', 'b'\]",
    "- exact:\n    among: a > 1\n    among: b > 1": "line 5: 'among' stands here a second time",
    "- ? {a: b}\n  : c": "line 3: a key is a word, found a mapping",
    "- exact: &a {among: *a}": "line 3: what stands here holds itself",
}  # fmt: skip


@pytest.mark.parametrize("lines", WRONG_STAGES)
def test_a_wrong_stage_is_named(lines):
    with pytest.raises(RecipeError, match=WRONG_STAGES[lines]) as raised:
        stages("".join(f"  {line}\n" for line in lines.split("\n")))
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a recipe is a mapping with name, ingest, stages; found NoneType"),
        ("- exact", "a recipe is a mapping with .* found list"),
        (INGEST, "a recipe needs `stages:`"),
        (INGEST + "stages: []\n", "a recipe needs `stages:`"),
        ("stages: [exact]\n", "a recipe needs `ingest:`"),
        ("ingest: raw\nstages: [exact]\n", "line 1: `ingest:` is a mapping with"),
        (INGEST + "stags: [exact]\n", r"line 2: unknown key 'stags'; did you mean 'stages'\?"),
        (INGEST + "1: x\nstages: [exact]\n", "line 2: unknown key '1'; keys are name, ingest, stages"),
        (INGEST + "stages: {exact: }\n", "line 2: `stages:` is a list"),
        (INGEST + "name: [a]\nstages: [exact]\n", "line 2: `name:` is a word"),
        (INGEST + INGEST + "stages: [exact]\n", "line 2: 'ingest' stands here a second time"),
        (INGEST + "stages: [exact\n", "line 3, column 1: not valid YAML"),
        (INGEST + "stages: [exact]\n---\na: b\n", "line 3, column 1: not valid YAML"),
        (INGEST + "stages: !!python/name:os.system [exact]\n", "line 2, column 9: not valid YAML"),
        (INGEST + "\0", "not valid YAML"),
    ],
)
def test_what_is_no_recipe_is_named(text, message):
    with pytest.raises(RecipeError, match=message):
        read(text)


def test_a_file_is_read_and_named_in_errors(tmp_path):
    file = tmp_path / "web.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + INGEST.encode() + b"stages: [exact]\n")
    assert load(str(file)).root == str(tmp_path)
    file.write_text(INGEST + "stages: [exakt]\n")
    with pytest.raises(RecipeError, match=rf"{file}: line 2: stages\[0\]: no stage is called 'exakt'"):
        load(str(file))
    file.write_bytes(INGEST.encode() + b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"web\.yaml is no UTF-8 text"):
        load(str(file))
    with pytest.raises(RecipeError, match=r"no recipe at .*none\.yaml"):
        load(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match=r"no recipe at .*Is a directory"):
        load(str(tmp_path))


def test_a_stage_that_measures_again_behind_a_rewrite_is_named_after_it() -> None:
    text = """
ingest: {files: raw/*.jsonl, source: web}
stages:
  - heuristics: {signals: [quality]}
  - clean: {steps: [c4]}
  - heuristics: {signals: [quality]}
  - select: {keep: {long: words > 3}}
"""
    made = parse(text, root="/nowhere")
    assert [node.name for node in made.nodes] == ["heuristics", "clean", "heuristics_clean", "select"]
    assert [node.prefix for node in made.nodes] == ["", "", "", ""]
    with pytest.raises(RecipeError, match="'heuristics' is taken by line 4"):
        parse(text.replace("  - clean: {steps: [c4]}\n", ""), root="/nowhere")
    with pytest.raises(RecipeError, match="'heuristics_clean' is taken by line 6"):
        parse(text.replace("  - select", "  - heuristics:\n  - select"), root="/nowhere")


def test_files_of_rules_lie_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("rules: {long: {keep: words > 3}}")
    text = "ingest: {files: raw/*.jsonl, source: web}\nstages:\n  - heuristics:\n  - select: {rules: [./own.yaml]}\n"
    select = parse(text, root=str(tmp_path)).nodes[1].stage
    assert select.conditions == {"own.long": "words > 3"}
    assert str(tmp_path) not in str(select.identity())


def test_a_file_of_rules_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("rules: {long: words > 3}")
    text = "ingest: {files: raw/*.jsonl, source: web}\nstages:\n  - heuristics:\n  - select: {rules: [./own.yaml]}\n"
    select = parse(text, root=str(tmp_path)).nodes[1].stage
    before = select.identity()
    (tmp_path / "own.yaml").write_text("rules: {long: words > 9}")
    assert pickle.loads(pickle.dumps(select)).identity() == before
    assert parse(text, root=str(tmp_path)).nodes[1].stage.identity() != before
