"""Counts and shares that the rules for source code are made of. Thresholds belong to `select`.

The columns serve the rules of StarCoder (Li et al. 2023, arXiv 2305.06161), StarCoder2 and The Stack v2 (Lozhkov et
al. 2024, arXiv 2402.19173) and OpenCoder (Huang et al. 2024, arXiv 2411.04905); the rules themselves are the bundles
`starcoder`, `stack_v2`, `opencoder` and, with `parse`, `opencoder_python`.

The catch: comments are found by a table of marks (`kernels/code_syntax`), functions by their looks; only Python, and
only when asked, is parsed.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.arrow import one, utf8
from curate.draw import keyed_by
from curate.errors import RecipeError
from curate.languages import words
from curate.stage import Stage, Verdict

LARGEST_PARSED = 1_000_000  # bytes: a syntax tree takes some hundred times the bytes of its source

COLUMNS = (
    *("code_language", "code_bytes", "code_characters", "code_lines", "code_max_line_length"),
    *("code_mean_line_length", "code_words", "code_mean_word_length", "code_alphabetic_ratio"),
    *("code_alphanumeric_ratio", "code_visible_alphabetic_ratio", "code_digit_ratio", "code_whitespace_ratio"),
    *("code_replacement_ratio", "code_hex_escape_ratio", "code_hex_word_ratio", "code_encoded_longest"),
    *("code_encoded_ratio", "code_generated", "code_generated_head", "code_xml", "code_html_visible_characters"),
    *("code_html_visible_ratio", "code_comment_ratio", "code_placeholder_comment_ratio", "code_string_ratio"),
    *("code_long_string_line_ratio", "code_long_string_word_ratio", "code_assert_ratio", "code_import_ratio"),
    *("code_pass_ratio", "code_print_ratio", "code_function_ratio", "code_preprocessor_ratio", "code_main_count"),
    *("code_duplicate_line_ratio", "code_draw"),
)
PARSED_COLUMNS = (
    "code_python_parses",
    "code_python_variables",
    "code_python_function_ratio",
    "code_python_one_return_ratio",
    "code_python_no_logic_score",
)


@dataclass(frozen=True)
class Code(Stage):
    """Add 37 columns for source code. No count or share is NaN; a share of nothing is 0, unless said otherwise.

    language: the column that names the programming language, in any case, or is null. code_language: that name in
    lower case, other spellings unified ("cpp" is "c++"), and "" for null, so that rules need not ask.

    Of the text: code_bytes, code_characters (code points), code_lines (parted by line feeds); code_max_line_length
    and code_mean_line_length in code points, line feeds aside; code_words and code_mean_word_length as
    `kernels/code_characters` says. Shares of all characters: alphabetic, alphanumeric, whitespace, replacement
    (U+FFFD), hex_escape (two for each "\\\\x"), encoded (matches of StarCoder2's three expressions, merged;
    code_encoded_longest is the longest, in characters). Shares of characters that are no white space, as OpenCoder
    counts: visible_alphabetic, digit (1 for a text of none). code_generated: a phrase in the first five lines
    (StarCoder2); code_generated_head: in the first 200 characters (OpenCoder); code_xml: an XML declaration in the
    first 100. code_html_visible_*: visible text of HTML, null for other languages.

    Of comments, null where their marks are not known: code_comment_ratio, of all characters;
    code_placeholder_comment_ratio, lines of comments with "todo", "fixme" or "your code here" per line.

    Of the code without comments (the text, where marks are not known), per line that is not blank: assert, import,
    pass (anywhere in the line, any case), print (what prints in that language), preprocessor (C's directives, "struct"
    or "using"), function (told by looks), duplicate_line (all copies of repeated lines, white space aside, except for
    lines of one character and "},"), long_string_line. Per character: string, hex_word, long_string_word.
    code_main_count: `main(...) {`.

    code_draw: 0 <= draw < 1, one for each `id` and `seed`, for rules that drop with a chance.

    parse: for Python, also code_python_*: whether it parses, names that are assigned, and per line of code its
    functions, those that only return, and the lines without logic (may exceed 1). Null for other languages and above
    1 MB; all but the first null where it does not parse. Only the syntax of this interpreter's version parses.
    """

    kind: ClassVar[str] = "code"
    version: ClassVar[int] = 1

    language: str = "language"
    parse: bool = False
    seed: int = 0

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Code":
        if lineage.get(self.language, {}).get("stage", {}).get("kind") == "language":
            raise RecipeError(
                f"'{self.language}' is what `language` found, English or German; `code` wants the column that names "
                "the programming language: give it as `language:`"
            )
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        return ("id", "text", self.language)

    @property
    def adds(self) -> tuple[str, ...]:
        return COLUMNS + (PARSED_COLUMNS if self.parse else ())

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        from curate.kernels.code import code_counts

        offsets, data = utf8(shard["text"])
        languages, language = _languages(shard[self.language])
        seen = code_counts(offsets, data, languages=languages, language=language)
        columns = {
            "code_language": pa.array(languages, pa.string()).take(pa.array(language)),
            "code_bytes": np.diff(offsets),
            "code_draw": (keyed_by(shard.select(["id"]), self.seed) >> np.uint64(11)).astype(np.float64) / 2.0**53,
            **_of_text(seen),
            **_of_code(seen),
            **_of_pages(seen, np.array([name == "html" for name in languages], np.bool_)[language]),
        }
        if self.parse:
            python = np.array([name == "python" for name in languages], np.bool_)[language]
            columns |= _parsed(shard["text"], python & (np.diff(offsets) <= LARGEST_PARSED), seen)
        return pa.table({name: columns[name] for name in self.adds})


def _languages(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The languages of a shard in lower case, "" among them, and for every row the place of its own."""
    from curate.kernels.code_syntax import ALIASES

    coded = words(one(column))
    lower = [(name or "").strip().lower() for name in coded.dictionary.to_pylist()]
    known = [ALIASES.get(name, name) for name in lower]
    languages = sorted({"", *known})
    places = np.array([*map(languages.index, known), languages.index("")], np.int64)
    return languages, places[coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float32; nothing of nothing is 0."""
    share: np.ndarray = (part / np.maximum(whole, 1)).astype(np.float32)
    return share


def _of_text(seen: dict[str, np.ndarray]) -> dict[str, pa.Array | np.ndarray]:
    characters, lines = seen["characters"], seen["lines"]
    shown = characters - seen["spaces"]
    return {
        "code_characters": characters,
        "code_lines": lines.astype(np.int32),
        "code_max_line_length": seen["longest_line"].astype(np.int32),
        "code_mean_line_length": _ratio(characters - seen["line_feeds"], lines),
        "code_words": seen["words"].astype(np.int32),
        "code_mean_word_length": _ratio(seen["word_characters"], seen["words"]),
        "code_alphabetic_ratio": _ratio(seen["letters"], characters),
        "code_alphanumeric_ratio": _ratio(seen["alphanumerics"], characters),
        "code_visible_alphabetic_ratio": _ratio(seen["letters"], shown),
        "code_digit_ratio": np.where(shown > 0, _ratio(seen["digits"], shown), np.float32(1)),
        "code_whitespace_ratio": np.where(characters > 0, _ratio(seen["spaces"], characters), np.float32(1)),
        "code_replacement_ratio": _ratio(seen["replacements"], characters),
        "code_hex_escape_ratio": _ratio(2 * seen["hex_escapes"], characters),
        "code_encoded_longest": seen["encoded_longest"].astype(np.int32),
        "code_encoded_ratio": _ratio(seen["encoded_characters"], characters),
        "code_generated": seen["generated_lines"].astype(np.bool_),
        "code_generated_head": seen["generated_head"].astype(np.bool_),
        "code_xml": seen["xml"].astype(np.bool_),
    }


def _of_code(seen: dict[str, np.ndarray]) -> dict[str, pa.Array | np.ndarray]:
    lines, characters = seen["code_lines"], seen["code_characters"]
    unknown = seen["family"] < 0
    return {
        "code_comment_ratio": pa.array(_ratio(seen["comment_characters"], seen["characters"]), mask=unknown),
        "code_placeholder_comment_ratio": pa.array(_ratio(seen["placeholder_lines"], seen["lines"]), mask=unknown),
        "code_string_ratio": _ratio(seen["string_characters"], characters),
        "code_long_string_word_ratio": _ratio(seen["string_word_characters"], characters),
        "code_hex_word_ratio": _ratio(seen["hex_word_characters"], characters),
        "code_long_string_line_ratio": _ratio(seen["long_string_lines"], lines),
        "code_assert_ratio": _ratio(seen["assert_lines"], lines),
        "code_import_ratio": _ratio(seen["import_lines"], lines),
        "code_pass_ratio": _ratio(seen["pass_lines"], lines),
        "code_print_ratio": _ratio(seen["print_lines"], lines),
        "code_function_ratio": _ratio(seen["functions"], lines),
        "code_preprocessor_ratio": _ratio(seen["preprocessor_lines"], lines),
        "code_main_count": seen["mains"].astype(np.int32),
        "code_duplicate_line_ratio": _ratio(seen["duplicate_lines"], lines),
    }


def _of_pages(seen: dict[str, np.ndarray], page: np.ndarray) -> dict[str, pa.Array]:
    return {
        "code_html_visible_characters": pa.array(seen["visible"].astype(np.int32), mask=~page),
        "code_html_visible_ratio": pa.array(_ratio(seen["visible"], seen["characters"]), mask=~page),
    }


def _parsed(text: pa.ChunkedArray, wanted: np.ndarray, seen: dict[str, np.ndarray]) -> dict[str, pa.Array]:
    """What syntax trees say of the rows that are `wanted`; one document at a time, some 2 MB a second."""
    rows = len(wanted)
    found, parses = np.zeros((rows, 5), np.int64), np.zeros(rows, np.bool_)
    for row in np.flatnonzero(wanted):
        counted = python_counts(text[int(row)].as_py())
        parses[row] = counted is not None
        found[row] = counted or (0,) * 5
    variables, functions, one_return, classes, members = found.T
    lines = seen["code_lines"]
    simple = functions + classes + members + seen["import_lines"] + seen["return_lines"]
    return {
        "code_python_parses": pa.array(parses, mask=~wanted),
        "code_python_variables": pa.array(variables.astype(np.int32), mask=~parses),
        "code_python_function_ratio": pa.array(_ratio(functions, lines), mask=~parses),
        "code_python_one_return_ratio": pa.array(_ratio(one_return, lines), mask=~parses),
        "code_python_no_logic_score": pa.array(_ratio(simple, lines), mask=~parses),
    }


def python_counts(source: str) -> tuple[int, int, int, int, int] | None:
    """Of a Python source: different names that `=`, `for` and parameters give; functions (`def`); those whose body is
    one `return`; classes; names assigned in the bodies of classes, nested classes aside. None if it does not parse.

    The visitors of OpenCoder (opc_data_filtering, python_utils): `async def` is no function to them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in strangers' sources
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    names: set[str] = set()
    functions = one_return = classes = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            names |= {argument.arg for argument in node.args.args}
            functions += 1
            one_return += len(node.body) == 1 and isinstance(node.body[0], ast.Return)
        elif isinstance(node, ast.ClassDef):
            classes += 1
    return len(names), functions, one_return, classes, sum(_members(tree))


def _members(tree: ast.AST) -> Iterator[int]:
    """For every class outside of classes, how many names its body assigns."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
            continue
        for item in node.body:
            if isinstance(item, ast.Assign):
                yield sum(isinstance(target, ast.Name) for target in item.targets)
            elif isinstance(item, ast.AnnAssign):
                yield int(isinstance(item.target, ast.Name))
