"""Documents on both sides of a rule: the nearest first, whatever the order and the shards they came in."""

import json
import random

import pytest

from curate import cli, recipe
from curate.errors import RecipeError
from curate.look import look
from curate.run import run

RECIPE = """
ingest: {files: "raw/*.jsonl", source: {field: source}, shard_bytes: 4096}
stages:
  - heuristics:
  - exact:
  - select:
      name: first
      keep: {first_copy: not duplicate, between: words between 10 and 30, starred: stars >= 2, apart: words < 12 or words > 28}
      rules: [gopher_quality]
  - {select: {keep: {parted: stars >= 0 and words >= 15}}, name: second, from: heuristics}
  - {select: {keep: {mixed: words >= 20 or stars >= 8}}, name: third, from: heuristics}
  - {select: {keep: {part: source = 'docs' and words >= 20}}, name: fourth, from: heuristics}
  - {select: {keep: {everything: words >= 0, rare: words < 12 or words > 28}}, name: fifth, from: heuristics}
"""  # noqa: E501


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("look")
    (place / "raw").mkdir()
    draw = random.Random(1)
    lines = []
    for number in range(400):
        words = 1 + number % 40
        text = " ".join(draw.choice(["river", "of", "the", "stone"]) + str(number) for _ in range(words))
        stars = None if number % 9 == 0 else draw.randrange(10)
        lines.append(
            json.dumps({"id": f"n{number}", "text": text, "source": draw.choice(["docs", "web"]), "stars": stars})
        )
    draw.shuffle(lines)
    lines.append(lines[0])
    for index in range(4):
        (place / "raw" / f"{index}.jsonl").write_text("\n".join(lines[index::4]) + "\n")
    (place / "recipe.yaml").write_text(RECIPE)
    run(recipe.load(str(place / "recipe.yaml")), str(place / "run"))
    return str(place / "run")


def values(told: dict, side: str, name: str = "words") -> list:
    return [row["columns"][name] for row in told[side]]


def test_the_nearest_on_both_sides_of_two_thresholds(done):
    told = look(done, rule="between", n=30)
    assert (told["stage"], told["by"], told["expression"]) == ("first", "words", "words between 10 and 30")
    assert sorted(values(told, "dropped")[:20]) == [9] * 10 + [31] * 10
    assert {*values(told, "dropped")[20:]} <= {8, 32}
    assert sorted({*values(told, "held")[:20]}) == [10, 30]
    assert [row["distance"] for row in told["dropped"]] == sorted(row["distance"] for row in told["dropped"])
    assert {row["dropped_by"] for row in told["dropped"]} == {"between"}
    assert "between" not in {row["dropped_by"] for row in told["held"]}
    assert told["documents"]["dropped"] >= 9 * 10 + 10 * 10 - 1
    assert all(len(row["text"].split()) == row["columns"]["words"] for row in told["held"])


def test_equal_distances_go_by_id_and_few_are_the_first_of_many(done):
    many, few = look(done, rule="between", n=1000), look(done, rule="between", n=3)
    assert few["dropped"] == many["dropped"][:3]
    assert few["held"] == many["held"][:3]
    for side in ("dropped", "held"):
        keys = [(row["distance"], row["id"]) for row in many[side]]
        assert keys == sorted(keys)
        assert len(keys) == many["documents"][side] or len(keys) == 1000
    assert look(done, rule="between", n=1000) == many


def test_what_is_dropped_may_lie_inside(done):
    told = look(done, rule="rare", stage="fifth", n=10)
    assert told["by"] == "words"
    assert {*values(told, "dropped")} <= {12, 28}
    assert {*values(told, "held")} <= {11, 29}
    assert [row["distance"] for row in told["held"]] == [1.0] * 10


def test_the_first_number_that_parts_them_counts(done):
    told = look(done, rule="parted", stage="second", n=8)
    assert told["by"] == "words", "stars are everywhere on both sides"
    assert values(told, "dropped") == [14] * 8
    assert values(told, "held") == [15] * 8


def test_without_a_border_the_order_is_that_of_ids(done):
    told = look(done, rule="mixed", stage="third", n=50)
    assert told["by"] is None
    for side in ("dropped", "held"):
        assert [row["id"] for row in told[side]] == sorted(row["id"] for row in told[side])
        assert {row["distance"] for row in told[side]} == {None}


def test_rows_beyond_the_border_come_first_where_a_word_drops_others(done):
    told = look(done, rule="part", stage="fourth", n=4)
    assert told["by"] == "words"
    assert values(told, "dropped") == [19] * 4
    assert values(told, "held") == [20] * 4
    assert {row["columns"]["source"] for row in told["held"]} == {"docs"}


def test_marks_sets_of_rules_and_unknown_values(done):
    copies = look(done, rule="first_copy")
    assert copies["documents"]["dropped"] == 1
    assert copies["documents"]["held"] == 400
    assert copies["by"] is None
    unknown = look(done, rule="starred:unknown", n=100)
    assert values(unknown, "dropped", "stars") == [None] * unknown["documents"]["dropped"]
    assert unknown["documents"]["dropped"] > 5
    bundle = look(done, rule="gopher_quality.word_count")
    assert bundle["by"] is None or bundle["by"] == "symbol_free_words"
    none = look(done, rule="everything", stage="fifth")
    assert none["documents"] == {"dropped": 0, "held": 401, "kept": none["documents"]["kept"]}
    assert none["dropped"] == []
    assert len(none["held"]) == 5


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("betwen", "no `select` step has a rule called 'betwen'; did you mean 'between'?"),
        ("gopher_quality", "a rule called 'gopher_quality'"),
        ("between:unknwn", "a rule called 'between:unknwn'; did you mean 'between:unknown'?"),
        ("between:", "a rule called 'between:'"),
        ("", "rules of 'third' are mixed; "),
    ],
)
def test_a_rule_that_is_not_there(done, rule, said):
    with pytest.raises(RecipeError) as error:
        look(done, rule=rule)
    assert said in str(error.value)


def test_the_step_that_has_the_rule_is_meant(done):
    assert look(done, rule="mixed") == look(done, rule="mixed", stage="third")
    short = look(done, rule="word_count")
    assert (short["stage"], short["rule"]) == ("first", "gopher_quality.word_count")
    assert short == look(done, rule="gopher_quality.word_count")
    assert look(done, rule="stop_words:unknown")["rule"] == "gopher_quality.stop_words:unknown"
    with pytest.raises(RecipeError, match=r"'second' has no rule called 'mixed'; 'third' has it \(`--stage third`\)"):
        look(done, rule="mixed", stage="second")


def test_a_name_that_several_rules_have(done, tmp_path):
    (tmp_path / "other.yaml").write_text("rules: {word_count: {keep: words > 12}, alone: {keep: words > 13}}\n")
    (tmp_path / "raw.jsonl").write_text('{"text": "one text"}\n')
    (tmp_path / "recipe.yaml").write_text(
        "ingest: {files: raw.jsonl, source: a}\n"
        "stages:\n"
        "  - heuristics:\n"
        "  - select: {name: one, keep: {same: words > 0}, rules: [gopher_quality, ./other.yaml]}\n"
        "  - select: {name: two, from: heuristics, keep: {same: words > 1, alone: words > 2}}\n"
    )
    out = str(tmp_path / "run")
    run(recipe.load(str(tmp_path / "recipe.yaml")), out)
    with pytest.raises(RecipeError, match=r"'one' and 'two' each have a rule called 'same': .*`--stage one`"):
        look(out, rule="same")
    assert look(out, rule="same", stage="two")["expression"] == "words > 1"
    with pytest.raises(RecipeError, match=r"may mean gopher_quality\.word_count or other\.word_count of 'one'"):
        look(out, rule="word_count")
    assert look(out, rule="alone")["stage"] == "two", "a name in full goes before one without its set"


def test_what_was_kept_is_shown_and_only_without_it_what_others_dropped(done, capsys):
    told = look(done, rule="between", n=1000)
    assert {row["dropped_by"] for row in told["held"]} == {None} or not told["documents"]["kept"]
    assert told["documents"]["kept"] < told["documents"]["held"]
    every = look(done, rule="everything", n=1000)
    assert {row["dropped_by"] for row in every["held"]} == {None}
    assert len(every["held"]) == every["documents"]["kept"]
    none = look(done, rule="starred")
    assert none["documents"]["kept"] == 0, "gopher_quality drops all of these"
    assert {row["dropped_by"] is None for row in none["held"]} == {False}
    assert len(none["held"]) == 5
    assert cli.main(["look", done, "--rule", "everything"]) == 0
    assert "documents that were kept" in capsys.readouterr().out
    assert cli.main(["look", done, "--rule", "starred"]) == 0
    shown = capsys.readouterr().out
    assert "documents for which it held" in shown
    assert "(dropped by " in shown


def test_the_command_line(done, capsys):
    assert cli.main(["look", done, "--rule", "between", "-n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == look(done, rule="between", n=2)
    assert cli.main(["look", done, "--rule", "part", "--stage", "fourth"]) == 0
    shown = capsys.readouterr().out
    assert "5 of " in shown
    assert "words=19" in shown
    assert cli.main(["look", done, "--rule", "no"]) == 2
    assert "has a rule called 'no'" in capsys.readouterr().err
