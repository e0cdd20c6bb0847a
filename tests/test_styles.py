"""Styles: those of the package say what their sources say, files are read strictly, no passage breaks a prompt."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strategies import hostile_text

from curate import schema, store, styles
from curate.errors import RecipeError
from curate.kernels.joins import REASONS
from curate.styles import FOLDER, messages, most, names, style

GOLDEN = {
    "distill": (1, "dbf4373af6b0ebaf"),
    "diverse_qa": (1, "8b41abbd9d13dc8c"),
    "easy": (1, "c6d328faf330a8fe"),
    "extract": (1, "75f154616e1bc4f9"),
    "hard": (1, "1893bb70fabd558a"),
    "knowledge_list": (1, "748ca6c7abc024f0"),
    "medium": (1, "92c4031e26a4d8d5"),
    "qa": (1, "763d41ac014f7ec3"),
    "wikipedia": (1, "5f9cda836d362b45"),
}
"""Version and digest of what each style asks: a changed prompt is a new version."""

OWN = """\
name: own
version: 2
system: Be brief.
prompt: "Say it again, {x} times: {text} Thanks."
passages: {split: sentences, most: 300, least: 40}
sampling: {temperature: 0.2, top_p: 1, max_tokens: 100}
output: {least: 5}
"""


def written(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return str(path)


def words(text):
    return len(text.split())


def test_the_styles_are_those_of_the_papers():
    assert set(names()) == {
        "easy", "medium", "hard", "qa", "wikipedia", "diverse_qa", "distill", "extract", "knowledge_list"
    }  # fmt: skip
    for name in names():
        made = style(name)
        assert made.name == name
        assert "arXiv" in made.source
        assert made.system


@pytest.mark.parametrize("name", ["easy", "medium", "hard", "qa"])
def test_wrap_takes_sentences_of_300_tokens(name):
    made = style(name)
    assert (made.passages.split, made.passages.most, made.passages.least) == ("sentences", 300, 40)
    assert (made.sampling.temperature, made.sampling.top_p, made.sampling.top_k) == (0.7, 0.95, 0)
    ratios = {"easy": (0.5, 2.0), "medium": (0.5, 2.0), "hard": (0.3, 1.5), "qa": (0.3, 3.0)}
    assert made.output.ratio == ratios[name]
    # A passage may have 1.15 of `most`; its longest lawful answer must not be cut short.
    assert made.sampling.max_tokens > made.output.ratio[1] * 1.15 * 300
    assert made.output.skip == (("copied",) if name == "qa" else ())
    assert made.assembly.layout == "passage"


@pytest.mark.parametrize(
    ("name", "document", "least", "size", "kept", "final"),
    [
        ("wikipedia", 5, 5, 512, 510, 50),
        ("diverse_qa", 30, 30, 1000, 598, 100),
        ("distill", 30, 10, 2000, 1598, 50),
        ("extract", 30, 30, 1400, 1398, 50),
        ("knowledge_list", 30, 30, 1000, 598, 50),
    ],
)
def test_nemotron_takes_lines(name, document, least, size, kept, final):
    made = style(name)
    assert dataclasses.astuple(made.passages) == ("lines", least, None, size, document)
    assert (made.output.most, made.output.final, made.sampling.max_tokens) == (kept, final, kept + 2)
    assert (made.sampling.temperature, made.sampling.top_p, made.sampling.top_k) == (0.5, 0.9, 0)
    assert ("opening" in made.assembly.steps) == (name in ("wikipedia", "distill"))
    assert made.assembly.layout == ("document" if name == "wikipedia" else "passage")
    if made.output.opening:
        assert made.prompt.count(made.output.opening) == 1
    # Words are fewer than tokens; still it must be plain that a passage has most of the room.
    assert most(made, words) == size - words(made.system) - words(made.prompt.replace("{text}", "")) - 2
    assert most(made, words) > size / 2


def test_a_changed_prompt_is_a_new_version():
    now = {}
    for name in names():
        made = style(name)
        said = json.dumps([made.system, made.prompt, made.output.opening])
        now[name] = (made.version, hashlib.sha256(said.encode()).hexdigest()[:16])
    assert now == GOLDEN


@pytest.mark.parametrize("name", [*names(), "own"])
@given(text=st.one_of(hostile_text, st.sampled_from(["{text}", "{x} {} {0} %s $text {text}{text}", "\\1 \\g<0>", ""])))
def test_a_passage_is_put_in_as_it_is(name, text):
    made = style(name) if name != "own" else dataclasses.replace(style("easy"), prompt="{x} {{ {text} }} %d")
    system, user = messages(made, text)
    assert system == {"role": "system", "content": made.system}
    before, after = made.prompt.split("{text}")
    assert user == {"role": "user", "content": before + text + after}


def test_a_style_without_a_system_line_sends_none():
    made = dataclasses.replace(style("easy"), system="", prompt="Again: {text}")
    assert messages(made, "a") == [{"role": "user", "content": "Again: a"}]
    assert made.instructions == "Again:"


def test_the_instructions_are_our_words_and_no_others():
    for name in names():
        made = style(name)
        assert "{text}" not in made.instructions
        assert made.instructions.split() == [*made.system.split(), *made.prompt.replace("{text}", " ").split()]
        assert len(made.instructions.split()) >= 12


def test_a_style_of_ones_own(tmp_path):
    made = style(written(tmp_path, OWN))
    assert (made.name, made.version, made.passages.most, made.assembly.steps) == ("own", 2, 300, ())
    assert most(made, words) == 300
    assert made.instructions == "Be brief.\nSay it again, {x} times:\nThanks."
    with_source = style(written(tmp_path, OWN + "source: a book\n"))
    assert with_source.identity() == made.identity()
    assert style(written(tmp_path, OWN.replace("brief", "short"))).identity() != made.identity()
    assert json.loads(json.dumps(made.identity())) == made.identity()
    assert style(written(tmp_path, "\ufeff" + OWN.replace("\n", "\r\n"))).identity() == made.identity()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("system:", "sistem:", "line 3: unknown key 'sistem'; did you mean 'system'?"),
        ("top_p: 1", "topp: 1", "line 6: unknown key 'sampling.topp'; did you mean 'top_p'?"),
        ("{least: 5}", "{least: 5, colour: red}", "line 7: unknown key 'output.colour'; keys are least, most, final"),
        ("version: 2\n", "", "line 1: a style needs `version:`"),
        ("{least: 5}", "{}", "line 7: a style needs `output.least:`"),
        ("version: 2", "version: two", "line 2: `version`: "),
        ("version: 2", "version: 0", "line 1: `version` is 1 or more"),
        ("name: own", "name: my own", "`name` has letters"),
        ("{text}", "{txt}", "`prompt` has {text} once, where the passage goes; found 0"),
        ("{text}", "{text} {text}", "found 2"),
        ("Be brief.", "'Be brief: {text}'", "`system` has no {text}"),
        ("split: sentences", "split: sentence", "line 5: `passages.split`: input should be 'sentences' or 'lines'"),
        ("split: sentences", "split: lines", "line 5: passages: `split: lines` goes with `input`, not with `most`"),
        ("least: 40", "least: 301", "line 5: passages: `least` is from 0 to `most`, found 301"),
        ("temperature: 0.2", "temperature: 3", "line 6: sampling: `temperature` is from 0 to 2"),
        ("top_p: 1", "top_p: 0", "`top_p` is above 0"),
        ("{least: 5}", "{least: 5, most: 101}", "`most` of `output` is at most `max_tokens`, 100"),
        ("{least: 5}", "{least: 5, most: 4}", "line 7: output: `least` and `final` are 0 or more"),
        ("{least: 5}", "{least: 5, ratio: [2, 1]}", "line 7: output: `ratio` is the lowest and the highest"),
        ("{least: 5}", "{least: 5, ratio: [2]}", "line 7: a style needs `output.ratio.1:`"),
        ("{least: 5}", "{least: 5, skip: [copid]}", "did you mean 'copied'?"),
        ("{least: 5}", "{least: 5, opening: ' a'}", "no white space at its ends"),
        ("{least: 5}", "{least: 5}\nassembly: {steps: [opening]}", "the step `opening` needs `opening` in `output`"),
        (
            "{least: 5}",
            "{least: 5}\nassembly: {steps: [quotes, quotes]}",
            "line 8: assembly: each of `steps` comes once",
        ),
        ("{least: 5}", "{least: 5}\nassembly: {steps: [pairs], layout: document}", "`layout` is passage"),
        ("name: own", "name: own\nname: two", "line 2: 'name' stands here a second time"),
        ("name: own", "name: [own", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, old, new, said):
    assert old in OWN
    path = written(tmp_path, OWN.replace(old, new, 1))
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        style(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["", "- a\n", "just words", "\xff"])
def test_what_is_no_style_is_refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"own\.yaml"):
        style(str(path))


def test_a_name_that_is_none_gets_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'medium'"):
        style("medum")
    with pytest.raises(RecipeError, match="there is no style"):
        style("./none.yaml")


def test_a_prompt_that_leaves_no_room_is_refused():
    made = style("wikipedia")
    with pytest.raises(RecipeError, match="style 'wikipedia': its prompt takes 672 of 512 tokens"):
        most(made, lambda text: words(text) * 4)


def test_the_files_fit_their_schema_and_it_refuses_others():
    for name in names():
        jsonschema.validate(yaml.safe_load(store.read(store.join(FOLDER, f"{name}.yaml"))), schema.schema("style"))
    jsonschema.validate(yaml.safe_load(OWN), schema.schema("style"))
    for old, new in (("system:", "sistem:"), ("least: 5", "lest: 5"), ("top_p: 1", "top_p: 1, a: 2")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(OWN.replace(old, new)), schema.schema("style"))


def test_checks_and_steps_are_words_that_others_know():
    from curate import assembly

    assert set(assembly._STEPS) == set(styles.get_args(styles.Step))


def test_the_style_in_the_documentation_is_one(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "styles.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert style(written(tmp_path, shown)).name == "letter"
    for name in names():
        assert f"| `{name}` |" in text
    for word in (*styles.get_args(styles.Check), *styles.get_args(styles.Step), *REASONS):
        assert f"`{word}`" in text
