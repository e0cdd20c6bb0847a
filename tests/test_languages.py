"""Language files and the rules that use them: what is in them holds together, texts in ten scripts get the counts a
reader would give them, and a user's own rules are accepted or refused with a reason."""

import re
import unicodedata
from collections import defaultdict

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curate import expressions, languages, store
from curate.errors import RecipeError
from curate.kernels import boundaries, quality, text

CODES = sorted(languages.languages())
SETS = ("fineweb2_glotlid", "fineweb2")
PARAMETERS = sorted(
    {name for one in SETS for name in re.findall(rb"\$(\w+)", store.read(store.join(expressions.RULES, f"{one}.yaml")))}
)
PARAMETERS = [name.decode() for name in PARAMETERS]


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("code", CODES)
def test_a_language_file_holds_together(code):
    one = languages.languages()[code]
    assert one.source
    assert sorted(one.parameters) == PARAMETERS
    assert len(set(one.stop_words)) == len(one.stop_words) >= 8
    # A stop word that the words of its own language never equal would be dead.
    assert [languages.split(f"( {word} )", one.words) for word in one.stop_words if one.words == "unicode"] == [
        [word] for word in one.stop_words if one.words == "unicode"
    ]
    for word in one.stop_words:
        assert word.split() == [word]
        assert word == unicodedata.normalize("NFC", word)
        assert any(map(str.isalnum, word))
    for low, high in (("min_words", "max_words"), ("min_mean_word_length", "max_mean_word_length")):
        assert 0 <= one.parameters[low] < one.parameters[high]
    assert all(0 <= value <= 1 for name, value in one.parameters.items() if name.endswith(("ratio", "score")))


def test_languages_of_many_scripts():
    assert len(CODES) >= 24
    assert len({one.script for one in languages.languages().values()}) >= 10
    assert {code for code in CODES if languages.languages()[code].words == "unicode"} == {"ja", "th", "zh"}
    assert languages.languages()["en"].stop_words == ("the", "be", "to", "of", "and", "that", "have", "with")


def codes(*each, chunks=1):
    array = pa.array(each, pa.string())
    return pa.chunked_array([array[:2], array[2:]] if chunks > 1 else [array], pa.string())


def test_codes_become_sets():
    rows = codes("de", None, "xx", "de", CODES[-1], "", chunks=2)
    places = [CODES.index("de"), -1, -1, CODES.index("de"), len(CODES) - 1, -1]
    apart = pa.chunked_array([chunk.dictionary_encode() for chunk in rows.chunks])  # a dictionary for each chunk
    for column in (rows, rows.dictionary_encode(), rows.combine_chunks(), apart):
        words, which = languages.sets(column)
        assert (which.dtype, which.tolist()) == (np.int16, places)
        assert words[which[0]] == languages.languages()["de"].stop_words
    assert languages.sets(rows.dictionary_encode().slice(3, 2))[1].tolist() == places[3:5]
    assert languages.sets(codes())[1].tolist() == languages.sets(pa.nulls(0, pa.string()))[1].tolist() == []
    assert languages.sets(codes(None, None))[1].tolist() == [-1, -1]


def test_codes_say_how_words_are_found():
    found = languages.unicode_rows(codes("zh", "de", None, "xx", "th"))
    assert (found.dtype, found.tolist()) == (bool, [True, False, False, False, True])


GOOD = {"source": "me", "script": "Latin", "words": "whitespace", "stop_words": ["a"], "parameters": {"x": 1}}
BROKEN = [
    ("key", GOOD | {"stopwords": []}, "stop_words"),
    ("missing", {"words": "unicode"}, "script"),
    ("kind", GOOD | {"words": "spaces"}, "whitespace or unicode"),
    ("boolean", GOOD | {"stop_words": ["a", False]}, "quotes"),
    ("parameters", GOOD | {"parameters": [1]}, "mapping"),
    ("number", GOOD | {"parameters": {"x": "1"}}, "'x'"),
    ("list", ["a"], "list"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN, ids=[one[0] for one in BROKEN])
def test_a_broken_language_file_is_refused(tmp_path, name, content, said):
    file = tmp_path / "xx.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=r"xx\.yaml") as refused:
        languages.read(str(file))
    assert said in str(refused.value)


def test_a_good_language_file_is_read(tmp_path):
    (tmp_path / "xx.yaml").write_text(yaml.safe_dump(GOOD))
    assert languages.read(str(tmp_path / "xx.yaml")) == languages.Language(
        "xx", "Latin", "whitespace", ("a",), {"x": 1}, "me"
    )
    (tmp_path / "yy.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match=r"yy\.yaml: line 1, column 5: not valid YAML"):
        languages.read(str(tmp_path / "yy.yaml"))


# ---------------------------------------------------------------- texts in many scripts


def counted(code, one):
    """(words, stop words, characters of words) of a text by the kernels, as a stage would ask for them."""
    offsets, data = oracles.rows([one.encode()])
    first, edges = np.zeros(2, np.int64), np.zeros(2 * len(data) + 2, np.int32)
    if languages.languages()[code].words == "unicode":
        boundaries.unicode_words(offsets, data, boundaries.word_properties(), first, edges)
    else:
        places = [(len(one[: m.start()].encode()), len(one[: m.end()].encode())) for m in re.finditer(r"\S+", one)]
        first[1], edges[: 2 * len(places)] = len(places), np.array(places, np.int32).reshape(-1)
    out, stops = np.zeros((1, len(quality.QUALITY)), np.int64), np.zeros(1, np.int64)
    quality.quality(offsets, data, first, edges, text.code_point_classes(), out)
    sets, which = languages.sets(codes(code))
    quality.stop_words(offsets, data, first, edges, which, quality.stop_word_sets(sets), stops)
    words, characters, alphabetic, solid, _ = out[0].tolist()
    assert words == alphabetic == solid
    return words, stops.tolist()[0], characters


# Text, words, different stop words, characters of words; counted by hand. Marks at words count as spaces part them.
SCRIPTS = [
    ("en", "The cat that sat on the mat, and the dog.", 10, 3, 32),  # that the and
    ("de", "Der Hund und die Katze schlafen in der Sonne.", 9, 4, 37),  # und die in der
    ("ru", "Он был в городе и не знал, что делать.", 9, 5, 30),  # был в и не что
    ("el", "Η γάτα είναι στο σπίτι και ο σκύλος από έξω.", 10, 5, 35),  # είναι στο και ο από
    ("ar", "ذهب الولد إلى المدرسة مع أخيه في الصباح", 8, 3, 32),  # إلى مع في
    ("he", "הוא הלך עם הילד של השכן אל הבית", 8, 3, 24),  # הוא עם של
    ("hi", "यह किताब मेज पर है और वह एक लड़की की है", 11, 5, 29),  # पर है और एक की
    ("th", "ฉันไม่มีที่ในบ้านนี้", 9, 5, 20),  # ฉั น ไม่ มี ที่ ใน บ้า น นี้; of them not ฉั น บ้า น
    ("zh", "我在北京的大学是学生。", 10, 3, 10),  # 在 的 是
    ("ja", "私はラーメンを食べた。", 7, 3, 10),  # は を た; ラーメン is one word
    ("ko", "이 사람은 그 책을 읽고 있다", 6, 3, 11),  # 이 그 있다
    ("am", "ልጁ ወደ ቤት ሄደ እና መጽሐፍ አነበበ ግን ተኛ", 9, 3, 22),  # ወደ እና ግን
]


@pytest.mark.parametrize(("code", "one", "words", "stops", "characters"), SCRIPTS, ids=[one[0] for one in SCRIPTS])
def test_counts_in_many_scripts(code, one, words, stops, characters):
    assert counted(code, one) == (words, stops, characters)


def test_a_word_of_another_language_is_no_stop_word():
    assert counted("de", "the of and with")[1] == 0
    assert counted("zh", "の に を は")[1] == 0


# ---------------------------------------------------------------- rules by language


def passing(code, **changed):
    """A row that meets every limit of a language exactly where it has one."""
    limit = dict(languages.languages()[code].parameters)
    row = {
        "language": code,
        "language_score": limit["min_language_score"],
        "symbol_free_words": int(limit["min_words"]),
        "mean_word_length": limit["max_mean_word_length"],
        "stop_words": 2,
        "hash_ratio": 0.1,
        "ellipsis_ratio": 0.1,
        "bullet_line_ratio": 0.9,
        "ellipsis_line_ratio": 0.3,
        "duplicate_character_ratio": 0.1,
    }
    for name, value in limit.items():
        row.setdefault(name.removeprefix("min_").removeprefix("max_"), value)
    return row | changed


def failures(row):
    whole = ("symbol_free_words", "stop_words")
    kinds = {name: pa.int32() if name in whole else pa.float32() for name in row} | {"language": pa.string()}
    table = pa.table({name: pa.array([value], kinds[name]) for name, value in row.items()})
    rules = expressions.bundle("fineweb2_glotlid") | expressions.bundle("fineweb2")
    judged = {name: expressions.evaluate(keep, table) for name, keep in rules.items()}
    return [name + ":unknown" * int(lost[0]) for name, (true, lost) in judged.items() if not true[0]]


@pytest.mark.parametrize("code", CODES)
def test_the_limits_themselves_are_kept(code):
    """As float32, which is what the columns are: a limit that came out of CASE as float64 would drop some."""
    assert failures(passing(code)) == []
    low = passing(code, mean_word_length=languages.languages()[code].parameters["min_mean_word_length"])
    assert failures(low | {"symbol_free_words": int(languages.languages()[code].parameters["max_words"])}) == []


def test_rules_drop_what_they_name():
    assert failures(passing("de", language_score=0.82)) == ["language"]
    assert failures(passing("de", mean_word_length=15.1)) == ["mean_word_length"]
    assert failures(passing("ru", mean_word_length=11.1)) == ["mean_word_length"]
    assert failures(passing("de", mean_word_length=11.1)) == []
    assert failures(passing("zh", symbol_free_words=79)) == ["word_count"]
    assert failures(passing("ko", symbol_free_words=79, stop_words=1)) == ["stop_words"]
    assert failures(passing("fr", duplicate_7_gram_ratio=0.132, newline_ratio=0.2)) == ["duplicate_7_grams", "newlines"]


@pytest.mark.parametrize("language", ["xx", None])
def test_a_language_without_limits_is_unknown(language):
    found = failures(passing("de", language=language))
    assert found
    assert all(name.endswith(":unknown") for name in found)
    assert "stop_words" not in found  # holds the same for all


@pytest.mark.parametrize("name", expressions.bundles())
def test_every_set_of_rules_can_be_read(name):
    conditions = expressions.bundle(name)
    assert type(conditions) is dict
    assert conditions
    for condition in conditions.values():
        assert expressions.columns(condition)
        assert "$" not in condition
    assert expressions.title(name) == name


def test_limits_of_the_readings():
    """What DCLM and Dolma have otherwise than Gopher."""
    dclm, dolma = expressions.bundle("dclm_repetition"), expressions.bundle("dolma_repetition")
    assert dclm["duplicate_line_characters"] == "dclm_duplicate_line_character_ratio <= 0.2"
    assert dolma["duplicate_line_characters"] == "dolma_duplicate_line_character_ratio <= 0.3"
    assert not any("paragraph" in name for name in dolma)
    gopher = expressions.bundle("gopher_repetition")
    for name in (*(f"top_{n}_gram" for n in (2, 3, 4)), *(f"duplicate_{n}_grams" for n in range(5, 11))):
        assert dclm[name] == f"dclm_{gopher[name]}"
        assert dolma[name] == f"dolma_{gopher[name]}"


# ---------------------------------------------------------------- rules of one's own


def own(tmp_path, content):
    file = tmp_path / "my_rules.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(file)


def test_a_file_of_ones_own_is_a_set_of_rules(tmp_path):
    location = own(
        tmp_path, {"rules": {"long": {"keep": "words > 5", "source": "me"}, "good": {"keep": "score > 0.5"}}}
    )
    assert expressions.bundle(location) == {"long": "words > 5", "good": "score > 0.5"}
    assert expressions.title(location) == "my_rules"
    own(tmp_path, {"rules": {"long": {"keep": "words > 6"}}})
    assert expressions.bundle(location) == {"long": "words > 6"}


def test_limits_by_language_in_a_file_of_ones_own(tmp_path):
    location = own(tmp_path, {"by": "language", "rules": {"a": {"keep": "n >= $min_words + 1 and url != '$x'"}}})
    condition = expressions.bundle(location)["a"]
    assert "url != '$x'" in condition
    table = pa.table({"n": [51, 50, 26, 99], "language": ["de", "de", "ko", "xx"], "url": ["", "", "", ""]})
    true, unknown = expressions.evaluate(condition, table)
    assert (true.tolist(), unknown.tolist()) == ([True, False, True, False], [False, False, False, True])


REFUSED = [
    ("rules: [", "line 1, column 9: not valid YAML"),
    ("rules:\n  a: {keep: words > 9}\n  a: {keep: words > 0}", "line 3: 'a' stands here a second time"),
    ("rules: {a: {keep: words > 9, keep: words > 0}}", "'keep' stands here a second time"),
    ("rules: {a: 2024-99-99}", "not valid YAML: month must be in 1..12"),
    ("rules: " + "[" * 3000 + "]" * 3000, "nested too deep"),
    ("- a", "no mapping `rules`"),
    ("", "no mapping `rules`"),
    ({"rules": {}}, "no mapping `rules`"),
    ({"rules": {"a": 5}}, "'a' has no `keep:`"),
    ({"rules": {"a": {"source": "x"}}}, "'a' has no `keep:`"),
    ({"rules": {"a": {"keep": 5}}}, "'a' has no `keep:`"),
    ({"rules": {"a": {"keep": "words >"}}}, "'a': cannot read the expression"),
    ({"rules": {"a": {"keep": "words > 5", "kep": 1}}}, "unknown key 'kep'; did you mean 'keep'"),
    ({"rules": {"a": {"keep": "words > 5"}}, "rule": 1}, "unknown key 'rule'; did you mean 'rules'"),
    ({"rules": {"a b": {"keep": "words > 5"}}}, "letters, digits and _"),
    ({"rules": {1: {"keep": "words > 5"}}}, "letters, digits and _"),
    ({"by": "source", "rules": {"a": {"keep": "words > 5"}}}, "`by` is language"),
    ({"rules": {"a": {"keep": "words > $min_words"}}}, "needs `by: language`"),
    (
        {"by": "language", "rules": {"a": {"keep": "words > $min_word"}}},
        "parameter $min_word; did you mean 'min_words'",
    ),
    ({"rules": {"a": {"keep": "sum(words) > 5"}}}, "looks at many rows"),
]


@pytest.mark.parametrize(("content", "said"), REFUSED)
def test_broken_rules_are_refused_by_file_and_rule(tmp_path, content, said):
    with pytest.raises(RecipeError, match=re.escape("my_rules.yaml")) as refused:
        expressions.bundle(own(tmp_path, content))
    assert said in str(refused.value)


def test_rules_that_are_nowhere(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no file of rules .*nothing\.yaml"):
        expressions.bundle(str(tmp_path / "nothing.yaml"))
    with pytest.raises(RecipeError, match=r"did you mean 'fineweb2'.*given by its path"):
        expressions.bundle("finewebb2")
    with pytest.raises(RecipeError, match="letters, digits"):
        expressions.title("./my rules.yaml")


# ---------------------------------------------------------------- fitting a language


def test_fit_takes_what_is_frequent_and_cuts_the_tails():
    # 1000 words: "the" 300, "of" 100, ten words 60 times each (also ","), and nothing else.
    words = ["the"] * 300 + ["of"] * 100 + [","] * 60 + [f"word{letter}" for letter in "abcdefghi"] * 60
    ratios = np.linspace(0, 1, 101)
    made = languages.fit(
        [" ".join(words)],
        {"mean_word_length": np.linspace(2, 12, 101), "newline_ratio": ratios, "language_score": np.array([0.9, 0.5])},
        tail=0.1,
    )
    assert made["stop_words"] == ["the", "of", *(f"word{letter}" for letter in "abcdefghi")]
    assert made["words"] == "whitespace"
    assert made["parameters"] == {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_length": 3.0,
        "max_mean_word_length": 11.0,
        "max_newline_ratio": 0.9,
        "min_language_score": 0.5,  # median 0.7, deviation 0.2
    }


def test_fit_gives_eight_words_at_least_and_only_frequent_ones_beyond():
    texts = [" ".join(["a"] * 50 + [f"w{number:03}" for number in range(500)])]
    assert languages.fit(texts, {})["stop_words"] == ["a", *(f"w{number:03}" for number in range(7))]
    assert languages.fit(["我爱你我"], {}, words="unicode")["stop_words"] == ["我", "你", "爱"]
    with pytest.raises(RecipeError, match="not one word"):
        languages.fit([" ", ""], {})
    with pytest.raises(RecipeError, match="whitespace or unicode"):
        languages.fit(["a"], {}, words="spaces")


def test_what_fit_makes_is_a_language_file(tmp_path):
    made = languages.fit(["no on a b c"], {"newline_ratio": np.array([0.1])}) | {"script": "Latin", "source": "x"}
    (tmp_path / "xx.yaml").write_text(yaml.safe_dump(made, allow_unicode=True))
    assert languages.read(str(tmp_path / "xx.yaml")).stop_words == ("a", "b", "c", "no", "on")


# ---------------------------------------------------------------- real text


def test_parallel_sentences_pass_the_limits_of_their_language(shared):
    """Eight sentences of the same 672 in each language as a text: hardly any is too strange, whatever the script."""
    texts = defaultdict(list)
    for row in pq.read_table(shared / "data" / "langid" / "pud.parquet", columns=["language", "text"]).to_pylist():
        texts[row["language"]].append(row["text"])
    assert len(set(texts) & set(CODES)) >= 15
    for code in sorted(set(texts) & set(CODES)):
        one = languages.languages()[code]
        rows = [languages.split(" ".join(texts[code][at : at + 8]), one.words) for at in range(0, len(texts[code]), 8)]
        means = np.array([np.mean([len(word) for word in words]) for words in rows])
        letters = np.array([np.mean([any(map(str.isalpha, word)) for word in words]) for words in rows])
        stops = np.array([len(set(words) & set(one.stop_words)) for words in rows])
        low, high = one.parameters["min_mean_word_length"], one.parameters["max_mean_word_length"]
        assert ((means >= low) & (means <= high)).mean() >= 0.99, code
        assert (letters >= one.parameters["min_alphabetic_word_ratio"]).mean() >= 0.99, code
        assert (stops >= 2).mean() >= 0.95, code
