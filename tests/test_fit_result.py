"""The file that fits write and `mix` reads: its schema, what is refused and how that is said, before any work."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from corpus import write_corpus
from driving import outcome
from hypothesis import given
from hypothesis import strategies as st

from curate import recipe, schema, store
from curate.errors import RecipeError
from curate.fit import result
from curate.run import run
from curate.stages.mix import Mix, Phase, Worth

GOOD = {"kind": "utility", "weights": {"a": 0.25, "b": 0.75}, "half_lives": {"a": 2.5}, "report": {"runs": 3}}

odd = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(-2, 2), st.text(max_size=3))
values = st.one_of(odd, st.dictionaries(st.sampled_from("ab"), odd, max_size=2), st.lists(odd, max_size=1))
weights = st.sampled_from([{}, {"a": 1}, {"a": 0.5, "b": 0.5}, {"a": 1, "b": 0}])
results = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.one_of(st.sampled_from(["regmix", "utility", ""]), values),
        "weights": st.one_of(weights, values),
        "half_lives": st.one_of(st.sampled_from([{"a": 1.5}, {}]), values),
        "report": st.one_of(st.just({}), values),
        "weight": values,
    },
)


@given(st.one_of(values, results))
def test_what_is_read_is_what_fits_the_schema(raw: Any) -> None:
    """But for the sum of the weights, of which a schema cannot speak."""
    fits = jsonschema.Draft202012Validator(schema.schema("fit")).is_valid(raw)
    uri = "memory://fit-result.json"
    store.put(uri, json.dumps(raw).encode())
    found = outcome(result.load, uri)
    if isinstance(found, str):
        assert uri in found
        assert not fits or "they sum to 1" in found
        return
    assert fits
    assert found.weights == raw["weights"]
    assert found.half_lives == raw.get("half_lives", {})


def test_what_is_written_fits_the_schema(tmp_path: Path) -> None:
    out = str(tmp_path / "r.json")
    result.write(out, "utility", GOOD["weights"], GOOD["report"], half_lives={"a": 2.5, "c": 1.0})  # type: ignore[arg-type]
    told = json.loads(Path(out).read_text())
    assert told == GOOD  # of what has no worth there is no half-life
    jsonschema.validate(told, schema.schema("fit"))
    with pytest.raises(RecipeError, match="`half_lives` go with kind 'utility', and this is 'regmix'"):
        result.write(out, "regmix", {"a": 1.0}, {}, half_lives={"a": 2.0})
    with pytest.raises(RecipeError, match="the weight of 'a' is 1000"):
        result.write(out, "regmix", {"a": 10**400}, {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weigths": {}}, "unknown key 'weigths'; did you mean 'weights'?"),
        ({"kind": ""}, "`kind` is ''; it is a word"),
        ({"weights": [1]}, r"`weights` is \[1\]; it is an object"),
        ({"weights": {"a": True}}, "the weight of 'a' is True; weights are numbers, 0 or more"),
        ({"weights": {"a": -0.5, "b": 1.5}}, "the weight of 'a' is -0.5"),
        ({"weights": {"a": 10**400}}, r"the weight of 'a' is 1000.*\.\.\.; weights are numbers"),
        ({"half_lives": {"a": 10**400}}, "the half-life of 'a' is 1000"),
        ({"weights": {"a": 0.9, "b": 0.9}}, "weights sum to 1.8; they sum to 1"),
        ({"half_lives": {"a": 0}}, "the half-life of 'a' is 0; it is a number above 0"),
        ({"half_lives": {"c": 1}}, "a half-life of 'c', of which it says no worth"),
        ({"weights": {}, "half_lives": {}}, "found no signal"),
        ({"kind": "regmix", "half_lives": None}, "`half_lives` is None"),
    ],
)
def test_mix_refuses_what_is_no_result(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "worth.json"
    file.write_text(json.dumps({**GOOD, **changed}))
    with pytest.raises(RecipeError, match=said) as refused:
        Mix(phases=(Phase("all", utility=str(file)),)).spec()
    assert "worth.json" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{", '{"kind": "x", "weights": {"a": NaN}, "report": {}}', "[" * 100_000, "\ufeff"]
)
def test_mix_refuses_what_is_no_json(text: str, tmp_path: Path) -> None:
    file = tmp_path / "fit.json"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"fit\.json is no JSON"):
        Mix(fit=str(file)).spec()


def test_shares_are_no_worths(tmp_path: Path) -> None:
    shares, worths = str(tmp_path / "shares.json"), str(tmp_path / "worths.json")
    result.write(shares, "regmix", {"a": 1.0}, {})
    result.write(worths, "utility", {"a": 1.0}, {})
    with pytest.raises(RecipeError, match=r"shares\.json has shares \(kind 'regmix'\).*`fit: FILE` takes it"):
        Mix(phases=(Phase("all", utility=shares),)).spec()
    for method in (Mix(fit=worths), Mix(phases=(Phase("all", fit=worths),))):
        with pytest.raises(RecipeError, match=r"worths\.json has worths.*`utility: FILE` takes it"):
            method.spec()
    assert Mix(fit=shares).spec().phases[0].weights == {"a": 1.0}


def test_a_bad_result_is_refused_before_any_work(tmp_path: Path) -> None:
    write_corpus(tmp_path, documents=40)
    (tmp_path / "fit.json").write_text('{"kind": "regmix", "weights": {"docs": "1"}, "report": {}}')
    (tmp_path / "recipe.yaml").write_text(
        'ingest: {files: "raw/docs-*", source: docs, max_rejects: 0.5}\n'
        "stages: [{tokenize: {tokenizer: tokenizer.json, engine: tokenizers}}, {mix: {fit: fit.json}}]\n"
    )
    with pytest.raises(RecipeError, match=r"mix: .*fit\.json is no result of a fit: the weight of 'docs' is '1'"):
        run(recipe.load(str(tmp_path / "recipe.yaml")), str(tmp_path / "run"))
    assert not list((tmp_path / "run").rglob("*.parquet"))


def test_worths_in_a_recipe_have_half_lives_if_you_like() -> None:
    def mix(utility: str) -> Mix:
        phases = f"[{{name: p, utility: {utility}}}]"
        text = f"ingest: {{files: a, source: b}}\nstages: [{{mix: {{tokens: 8, phases: {phases}}}}}]"
        method = recipe.parse(text, root="/nowhere").nodes[0].stage
        assert isinstance(method, Mix)
        return method

    made = mix("{a: 2, b: {worth: 1.5, half_life: 3}, c: {worth: 1}}")
    phase = made.spec().phases[0]
    assert phase.utility == {"a": 2, "b": 1.5, "c": 1}
    assert phase.half_lives == {"b": 3}
    assert made.phases[0].utility == {"a": 2.0, "b": Worth(1.5, 3.0), "c": Worth(1.0)}
    plain = mix("{a: 2, b: 1.5, c: 1}")
    assert plain.spec().phases[0].half_lives is None
    assert plain.identity() != made.identity()
    json.dumps(made.identity())
    raw = {"ingest": {"files": "a", "source": "b"}, "stages": [{"mix": {"phases": [{"name": "p", "utility": {}}]}}]}
    raw["stages"][0]["mix"]["phases"][0]["utility"] = {"a": 2, "b": {"worth": 1.5, "half_life": 3}}  # type: ignore[index]
    jsonschema.validate(raw, schema.schema("recipe"))
    for wrong, said in (
        ("{a: {worth: 1, half_live: 3}}", "half_live"),
        ("{a: {half_life: 3}}", r"phases\.0\.utility\.a"),
        ("{a: {worth: 1, half_life: 0}}", "half-life of 'a'"),
        ("{a: {worth: -1}}", "`utility` of 'a'"),
    ):
        with pytest.raises(RecipeError, match=said):
            mix(wrong)
