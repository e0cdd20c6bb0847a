"""Every rule of the code bundles keeps a file at its threshold and drops the next, and leaves exceptions alone."""

import pyarrow as pa
import pytest
from test_code import shard

from curate.expressions import bundle, evaluate
from curate.stage import Verdict
from curate.stages.code import Code

PLAIN = "def f(a):\n    total = a + 1\n    return total * compute(a)\n\n"
GRAMS = {f"top_{n}_gram_ratio": 0.0 for n in (2, 3, 4)} | {f"duplicate_{n}_gram_ratio": 0.0 for n in range(5, 11)}

# rule, language, columns at the threshold, columns just beyond it
STACK_V2 = [
    ("lines", "python", {"code_lines": 100_000}, {"code_lines": 100_001}),
    ("longest_line", "python", {"code_max_line_length": 1000}, {"code_max_line_length": 1001}),
    ("longest_line", "tex", {"code_max_line_length": 100_000}, {"code_max_line_length": 100_001}),
    ("mean_line", "go", {"code_mean_line_length": 100.0}, {"code_mean_line_length": 100.1}),
    ("generated", "go", {"code_generated": False}, {"code_generated": True}),
    ("alphabetic", "go", {"code_alphabetic_ratio": 0.25}, {"code_alphabetic_ratio": 0.249}),
    ("alphabetic", "webassembly", {"code_alphanumeric_ratio": 0.25}, {"code_alphanumeric_ratio": 0.249}),
    ("encoded_run", "go", {"code_encoded_longest": 1024}, {"code_encoded_longest": 1025}),
    ("encoded_data", "go", {"code_encoded_ratio": 0.5}, {"code_encoded_ratio": 0.501}),
    ("data_lines", "graphviz (dot)", {"code_lines": 512}, {"code_lines": 513}),
    ("visible_text", "html", {"code_html_visible_characters": 100}, {"code_html_visible_characters": 99}),
    ("visible_share", "html", {"code_html_visible_ratio": 0.2}, {"code_html_visible_ratio": 0.199}),
]
STARCODER = [
    ("longest_line", "tex", {"code_max_line_length": 1000}, {"code_max_line_length": 1001}),
    ("mean_line", "go", {"code_mean_line_length": 100.0}, {"code_mean_line_length": 100.1}),
    ("alphanumeric", "go", {"code_alphanumeric_ratio": 0.25}, {"code_alphanumeric_ratio": 0.249}),
    ("xml", "go", {"code_xml": False}, {"code_xml": True}),
    ("visible_share", "html", {"code_html_visible_ratio": 0.201}, {"code_html_visible_ratio": 0.2}),
    ("visible_text", "html", {"code_html_visible_characters": 101}, {"code_html_visible_characters": 100}),
    ("data_size", "json", {"code_characters": 100}, {"code_characters": 99}),
    ("data_size", "yaml", {"code_characters": 5000}, {"code_characters": 5001}),
    ("comments", "java", {"code_comment_ratio": 0.01}, {"code_comment_ratio": 0.0099}),
    ("comments", "python", {"code_comment_ratio": 0.8}, {"code_comment_ratio": 0.801}),
]
OPENCODER = [
    ("replacement", "go", {"code_replacement_ratio": 0.01}, {"code_replacement_ratio": 0.011}),
    ("words", "go", {"code_words": 30}, {"code_words": 29}),
    ("characters", "go", {"code_characters": 50, "code_lines": 10}, {"code_characters": 49, "code_lines": 9}),
    ("characters", "json", {"code_characters": 5000, "code_lines": 60}, {"code_characters": 5001, "code_lines": 60}),
    ("mean_word_length", "go", {"code_mean_word_length": 2.0}, {"code_mean_word_length": 1.99}),
    ("mean_word_length", "go", {"code_mean_word_length": 10.0}, {"code_mean_word_length": 10.1}),
    ("top_2_gram", "go", {"top_2_gram_ratio": 0.2}, {"top_2_gram_ratio": 0.201}),
    ("top_3_gram", "go", {"top_3_gram_ratio": 0.18}, {"top_3_gram_ratio": 0.181}),
    ("top_4_gram", "go", {"top_4_gram_ratio": 0.16}, {"top_4_gram_ratio": 0.161}),
    *[
        (f"duplicate_{n}_grams", language, {f"duplicate_{n}_gram_ratio": at}, {f"duplicate_{n}_gram_ratio": at + 0.001})
        for n, most in zip(range(5, 11), (0.8, 0.7, 0.7, 0.7, 0.7, 0.6), strict=True)
        for language, at in (("go", most), ("html", 0.6))
    ],
    ("duplicate_lines", "go", {"code_duplicate_line_ratio": 0.7}, {"code_duplicate_line_ratio": 0.701}),
    ("bytes", "go", {"code_bytes": 3_000_000}, {"code_bytes": 3_000_001}),
    ("lines", "go", {"code_lines": 10, "code_characters": 99}, {"code_lines": 9, "code_characters": 99}),
    (
        "lines",
        "go",
        {"code_lines": 100_000, "code_characters": 10**6},
        {"code_lines": 100_001, "code_characters": 10**6},
    ),
    ("longest_line", "tex", {"code_max_line_length": 999}, {"code_max_line_length": 1000}),
    ("mean_line", "go", {"code_lines": 20, "code_characters": 100}, {"code_lines": 20, "code_characters": 99}),
    ("mean_line", "go", {"code_lines": 20, "code_characters": 2000}, {"code_lines": 20, "code_characters": 2001}),
    ("alphabetic", "go", {"code_visible_alphabetic_ratio": 0.5}, {"code_visible_alphabetic_ratio": 0.499}),
    ("digits", "go", {"code_digit_ratio": 0.2}, {"code_digit_ratio": 0.201}),
    ("digits", "sql", {"code_digit_ratio": 0.3}, {"code_digit_ratio": 0.301}),
    ("whitespace", "go", {"code_whitespace_ratio": 0.5}, {"code_whitespace_ratio": 0.501}),
    ("comments", "go", {"code_comment_ratio": 0.8}, {"code_comment_ratio": 0.801}),
    ("xml", "go", {"code_xml": False}, {"code_xml": True}),
    ("generated", "go", {"code_generated_head": False}, {"code_generated_head": True}),
    ("long_strings", "go", {"code_long_string_line_ratio": 0.2}, {"code_long_string_line_ratio": 0.201}),
    ("strings", "go", {"code_string_ratio": 0.6}, {"code_string_ratio": 0.601}),
    ("long_words", "json", {"code_long_string_word_ratio": 0.4}, {"code_long_string_word_ratio": 0.401}),
    ("encoded_run", "go", {"code_encoded_longest": 1024}, {"code_encoded_longest": 1025}),
    ("encoded_data", "go", {"code_encoded_ratio": 0.5}, {"code_encoded_ratio": 0.501}),
    ("hex_words", "go", {"code_hex_word_ratio": 0.4}, {"code_hex_word_ratio": 0.401}),
    ("placeholders", "go", {"code_placeholder_comment_ratio": 0.01}, {"code_placeholder_comment_ratio": 0.011}),
    ("asserts", "java", {"code_assert_ratio": 0.4}, {"code_assert_ratio": 0.401}),
    ("passes", "python", {"code_pass_ratio": 0.05}, {"code_pass_ratio": 0.051}),
    ("imports", "python", {"code_import_ratio": 0.3}, {"code_import_ratio": 0.301}),
    ("prints", "c#", {"code_print_ratio": 0.4}, {"code_print_ratio": 0.401}),
    ("functions", "go", {"code_function_ratio": 0.2}, {"code_function_ratio": 0.201}),
    ("mains", "c++", {"code_main_count": 1}, {"code_main_count": 2}),
    ("preprocessor", "c", {"code_preprocessor_ratio": 0.8}, {"code_preprocessor_ratio": 0.801}),
    ("visible_share", "html", {"code_html_visible_ratio": 0.2}, {"code_html_visible_ratio": 0.199}),
    ("visible_text", "html", {"code_html_visible_characters": 100}, {"code_html_visible_characters": 99}),
]
OPENCODER_PYTHON = [
    ("parses", "python", {"code_python_parses": True}, {"code_python_parses": False}),
    ("functions", "python", {"code_python_function_ratio": 0.2}, {"code_python_function_ratio": 0.201}),
    ("variables", "python", {"code_python_variables": 1}, {"code_python_variables": 0}),
    ("one_return", "python", {"code_python_one_return_ratio": 0.1}, {"code_python_one_return_ratio": 0.101}),
    ("no_logic", "python", {"code_python_no_logic_score": 0.5}, {"code_python_no_logic_score": 0.501}),
    (
        "no_logic",
        "python",
        {"code_python_no_logic_score": 0.9, "code_draw": 0.8},
        {"code_python_no_logic_score": 0.9, "code_draw": 0.799},
    ),
]
BUNDLES = {"stack_v2": STACK_V2, "starcoder": STARCODER, "opencoder": OPENCODER, "opencoder_python": OPENCODER_PYTHON}
CASES = [(name, *case) for name, cases in BUNDLES.items() for case in cases]

# Exceptions: far beyond a threshold, in a language that the rule leaves alone.
EXEMPT = [
    ("stack_v2", "json", {"code_mean_line_length": 5000.0, "code_max_line_length": 9000}),
    ("stack_v2", "motorola 68k assembly", {"code_alphabetic_ratio": 0.1}),
    ("stack_v2", "python", {"code_lines": 513}),
    ("stack_v2", "", {"code_lines": 513}),
    ("starcoder", "go", {"code_characters": 9000, "code_comment_ratio": 0.0}),
    ("opencoder", "html", {"code_comment_ratio": 0.9, "code_string_ratio": 0.9, "code_long_string_word_ratio": 0.9}),
    ("opencoder", "shell", {"code_string_ratio": 0.9, "code_long_string_line_ratio": 0.9, "code_assert_ratio": 0.9}),
    ("opencoder", "json", {"code_placeholder_comment_ratio": 0.9, "code_string_ratio": 0.9}),
    ("opencoder", "go", {"code_assert_ratio": 0.9, "code_pass_ratio": 0.9, "code_import_ratio": 0.9}),
    ("opencoder", "java", {"code_main_count": 9, "code_preprocessor_ratio": 0.9}),
    ("opencoder", "rust", {"code_print_ratio": 0.9, "code_function_ratio": 0.9}),
]


def failed(name: str, language: str, values: dict[str, object]) -> list[str]:
    """Names of the rules that a plain file, with these values in place of its own, fails."""
    table = Code(parse=True).apply(shard([PLAIN * 5], [language]), Verdict())
    for column, value in GRAMS.items():
        table = table.append_column(column, pa.array([value], pa.float32()))
    for column, value in values.items():
        place = table.column_names.index(column)
        table = table.set_column(place, column, pa.array([value], table.schema.field(column).type))
    return [rule for rule, keep in bundle(name).items() if not evaluate(keep, table)[0][0]]


@pytest.mark.parametrize(("name", "rule", "language", "kept", "dropped"), CASES)
def test_thresholds(name: str, rule: str, language: str, kept: dict, dropped: dict) -> None:
    plain = {"code_html_visible_characters": 500, "code_html_visible_ratio": 0.9} if language == "html" else {}
    low = {"code_function_ratio": 0.0, "code_python_no_logic_score": 0.0, "code_python_function_ratio": 0.0}
    low |= {"code_python_variables": 5, "code_draw": 0.0, "code_comment_ratio": 0.1}
    low |= {"code_duplicate_line_ratio": 0.0, "code_python_one_return_ratio": 0.0, "code_python_parses": True}
    assert failed(name, language, low | plain | kept) == []
    assert failed(name, language, low | plain | dropped)[:1] == [rule]


@pytest.mark.parametrize(("name", "language", "values"), EXEMPT)
def test_exceptions(name: str, language: str, values: dict) -> None:
    low = {"code_function_ratio": 0.0, "code_duplicate_line_ratio": 0.0}
    if language == "html":
        low |= {"code_html_visible_characters": 500, "code_html_visible_ratio": 0.9}
    assert failed(name, language, low | values) == []


def test_every_rule_has_a_case() -> None:
    for name, cases in BUNDLES.items():
        assert list(dict.fromkeys(case[0] for case in cases)) == list(bundle(name))


def test_nothing_unknown_of_a_text_without_language() -> None:
    """Neither an empty text nor an unnamed language makes a rule null."""
    for language in (None, "python", "html", "befunge"):
        table = Code(parse=True).apply(shard(["", "x = 1\n" * 20], [language] * 2), Verdict())
        for column, value in GRAMS.items():
            table = table.append_column(column, pa.array([value] * 2, pa.float32()))
        for name in BUNDLES:
            assert not any(evaluate(keep, table)[1].any() for keep in bundle(name).values())


TEXTS = [
    ("lines", "python", "a\n" * 100_000, "a\n" * 100_001),
    ("longest_line", "python", "a" * 32 + "." * 968, "a" * 32 + "." * 969),
    ("generated", "go", "a\n" * 5 + "// autogenerated", "a\n" * 4 + "// Autogenerated"),
    ("alphabetic", "go", "a..." * 9, "a..." * 9 + "."),
    ("encoded_run", "c", "s = '" + "4" * 1024 + "'" + "a " * 600, "s = '" + "4" * 1025 + "'" + "a " * 600),
    ("encoded_data", "c", "a-" * 32 + "b" * 64, "a-" * 31 + "b" * 64),
    ("data_lines", "YAML", "a\n" * 512, "a\n" * 513),
    ("visible_text", "HTML", "<b>" + "a" * 100, "<b>" + "a" * 99),
    ("visible_share", "HTML", "<" + "a" * 798 + ">" + "b c " * 50, "<" + "a" * 799 + ">" + "b c " * 50),
]


@pytest.mark.parametrize(("rule", "language", "kept", "dropped"), TEXTS)
def test_texts_at_the_thresholds_of_the_stack(rule: str, language: str, kept: str, dropped: str) -> None:
    table = Code().apply(shard([kept, dropped], [language] * 2), Verdict())
    assert evaluate(bundle("stack_v2")[rule], table)[0].tolist() == [True, False]
