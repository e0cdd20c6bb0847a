"""Source code parted into code and comments by a small table of marks per family of languages.

A lexer for each of 600 languages would be another project. What the rules ask is where comments are, and for that a
dozen families do: which marks open a comment or a string, which close it, whether a backslash escapes, whether it ends
with the line at the latest. In code, bytes that begin no mark are passed over; comments are cut out.

The catches. A string that is not closed ends with its line, except for those that may span lines. Nested comments,
heredocs, raw strings, regular-expression literals and preprocessor conditions are not known. A Python string in
triple quotes that begins a line counts as a comment (a docstring), as in Pygments.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.bits import read_only
from curate.kernels.blocks import Int64
from curate.kernels.compiled import inner, kernel

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

COMMENT, STRING, DOCUMENTATION = 0, 1, 2
UNKNOWN, WIDEST = -1, 4


class Mark(NamedTuple):
    """What opens and closes a comment or a string. An empty `close` is the end of the line, which is not part of it.
    `apart`: only after a space or at a line's start."""

    open: bytes
    close: bytes
    kind: int = COMMENT
    escapes: bool = False
    in_line: bool = False
    apart: bool = False


def _line(open: bytes) -> Mark:
    return Mark(open, b"", in_line=True)


def _quoted(*quotes: bytes, escapes: bool = True) -> tuple[Mark, ...]:
    return tuple(Mark(quote, quote, STRING, escapes=escapes, in_line=True) for quote in quotes)


_BLOCK = Mark(b"/*", b"*/")
_MARKUP = Mark(b"<!--", b"-->")
_QUOTES = _quoted(b'"', b"'")
_TICKS = Mark(b"`", b"`", STRING, escapes=True)
_APART = Mark(b"#", b"", in_line=True, apart=True)
_TRIPLE = tuple(Mark(quote * 3, quote * 3, DOCUMENTATION, escapes=True) for quote in (b'"', b"'"))
MARKS: dict[str, tuple[Mark, ...]] = {
    "c": (_line(b"//"), _BLOCK, *_QUOTES),
    "script": (_line(b"//"), _BLOCK, *_QUOTES, _TICKS),
    "rust": (_line(b"//"), _BLOCK, Mark(b'"', b'"', STRING, escapes=True)),
    "php": (_line(b"//"), _line(b"#"), _BLOCK, *_QUOTES),
    "css": (_BLOCK, *_QUOTES),
    "python": (*_TRIPLE, _line(b"#"), *_QUOTES),
    "hash": (_line(b"#"), *_QUOTES),
    "shell": (_APART, *_QUOTES),
    "sql": (_line(b"--"), _BLOCK, *_quoted(b"'", b'"', escapes=False)),
    "markup": (_MARKUP,),
    "lua": (Mark(b"--[[", b"]]"), _line(b"--"), Mark(b"[[", b"]]", STRING), *_QUOTES),
    "haskell": (Mark(b"{-", b"-}"), _line(b"--"), *_quoted(b'"')),
    "lisp": (Mark(b"#|", b"|#"), _line(b";"), Mark(b'"', b'"', STRING, escapes=True)),
    "assembly": (_line(b";"), _line(b"//"), _BLOCK, *_quoted(b'"')),
    "fortran": (_line(b"!"), *_quoted(b"'", b'"', escapes=False)),
    "percent": (_line(b"%"),),
    "basic": (_line(b"'"), *_quoted(b'"', escapes=False)),
    "pascal": (Mark(b"(*", b"*)"), Mark(b"{", b"}"), _line(b"//"), *_quoted(b"'", escapes=False)),
    "ml": (Mark(b"(*", b"*)"), *_quoted(b'"')),
    "data": _quoted(b'"'),
}
"""Marks by family; where two may begin at one place, the first named wins."""
FAMILIES = tuple(MARKS)

_NAMES = {
    "c": "c,c++,c#,objective-c,objective-c++,java,kotlin,scala,swift,dart,groovy,gradle,cuda,opencl,glsl,hlsl,d,"
    "solidity,zig,verilog,systemverilog,actionscript,vala,haxe,protocol buffer,thrift,graphviz (dot),arduino,"
    "processing",
    "script": "javascript,typescript,jsx,tsx,vue,svelte,go,coffeescript",
    "rust": "rust",
    "php": "php",
    "css": "css,scss,sass,less,stylus",
    "python": "python,cython,starlark",
    "hash": "ruby,r,julia,crystal,nim,elixir,tcl,awk,gdscript,gn,mojo",
    "shell": "shell,bash,zsh,fish,perl,raku,yaml,toml,ini,makefile,dockerfile,cmake,powershell,nix,properties,hcl",
    "sql": "sql,plsql,plpgsql,tsql,ada,vhdl,eiffel",
    "markup": "html,xml,svg,xslt,markdown,rmarkdown",
    "lua": "lua,moonscript",
    "haskell": "haskell,elm,purescript,agda,idris",
    "lisp": "common lisp,emacs lisp,scheme,clojure,racket,lisp",
    "assembly": "assembly,unix assembly,motorola 68k assembly,webassembly,llvm",
    "fortran": "fortran,fortran free form",
    "percent": "matlab,octave,tex,latex,bibtex,erlang,prolog,postscript",
    "basic": "visual basic,visual basic .net,vba,vbscript,basic",
    "pascal": "pascal,delphi,component pascal",
    "ml": "ocaml,standard ml,coq,f#,mathematica,isabelle",
    "data": "json,json with comments,json5,jsonld",
}
FAMILY_OF = {name: FAMILIES.index(family) for family, names in _NAMES.items() for name in names.split(",")}
"""Family, as its place in `FAMILIES`, by lower-case name of a language."""
ALIASES = {
    "cpp": "c++",
    "cxx": "c++",
    "csharp": "c#",
    "c-sharp": "c#",
    "fsharp": "f#",
    "f-sharp": "f#",
    "golang": "go",
    "js": "javascript",
    "ts": "typescript",
    "py": "python",
    "python3": "python",
    "rb": "ruby",
    "rs": "rust",
    "sh": "shell",
    "yml": "yaml",
    "htm": "html",
    "md": "markdown",
    "objc": "objective-c",
}
"""Other spellings of the lower-case names that rules use."""


def _tables() -> tuple[Bytes, Bytes, Int64s]:
    """For every family: the bytes that begin a mark uint8[families, 256]; the marks' bytes uint8[families, marks, 2,
    4]; and int64[families, marks, 6], sizes of open and close, kind, escapes, in_line, apart (size 0: no mark)."""
    most = max(map(len, MARKS.values()))
    begins = np.zeros((len(MARKS), 256), np.uint8)
    spelled = np.zeros((len(MARKS), most, 2, WIDEST), np.uint8)
    facts = np.zeros((len(MARKS), most, 6), np.int64)
    for family, marks in enumerate(MARKS.values()):
        for place, mark in enumerate(marks):
            begins[family, mark.open[0]] = 1
            for side, text in enumerate((mark.open, mark.close)):
                spelled[family, place, side, : len(text)] = list(text)
            facts[family, place] = (len(mark.open), len(mark.close), *mark[2:])
    return begins, spelled, facts


BEGINS, SPELLED, FACTS = _tables()


@kernel
def part(offsets: Int64s, data: Bytes, families: Int64s, code: Bytes, comments: Bytes, out: Int64s) -> None:
    """Part every row: what is no comment goes to `code`, each comment and a line feed to `comments`.

    `offsets` int64[n + 1] into `data` uint8[...]; `families` int64[n], places in `FAMILIES`, or UNKNOWN, when all is
    code. out: `code` uint8[bytes or more], `comments` uint8[2 x bytes or more]; out int64[n + 1, 3], where a row
    begins in `code` and in `comments`, and the code points in comments of the row before.
    """
    sizes = np.empty(3, np.int64)
    sizes[:] = 0
    out[0] = 0
    for row in range(len(offsets) - 1):
        sizes[2] = 0
        _part(read_only(data[offsets[row] : offsets[row + 1]]), families[row], code, comments, sizes)
        # One by one: to compile the assignment of an array takes two seconds.
        for i in range(3):
            out[row + 1, i] = sizes[i]


@inner
def _part(text: Bytes, family: Int64, code: Bytes, comments: Bytes, sizes: Int64s) -> None:
    """One row; sizes int64[3]: bytes of code and of comments so far, code points of the row's comments."""
    at, kept = np.int64(0), np.int64(0)
    while family != UNKNOWN and at < len(text):
        place = _opened(text, at, family) if BEGINS[family, text[at]] else -1
        if place < 0:
            at += 1
            continue
        end = _closed(text, at, family, place)
        kind = FACTS[family, place, 2]
        if kind == COMMENT or (kind == DOCUMENTATION and _begins_line(text, at)):
            _copy(text, kept, at, code, sizes)
            _keep(text, at, end, comments, sizes)
            kept = end
        at = end
    _copy(text, kept, np.int64(len(text)), code, sizes)


@inner
def _copy(text: Bytes, start: Int64, end: Int64, code: Bytes, sizes: Int64s) -> None:
    # A loop beats a slice for the short pieces between comments by little, and compiles in a fraction of its time.
    place = sizes[0]
    for at in range(start, end):
        code[place + at - start] = text[at]
    sizes[0] += end - start


@inner
def _keep(text: Bytes, start: Int64, end: Int64, comments: Bytes, sizes: Int64s) -> None:
    place = sizes[1]
    characters: Int64 = 0
    for at in range(start, end):
        comments[place + at - start] = text[at]
        characters += np.int64(text[at] & 0xC0 != 0x80)
    comments[place + end - start] = 10
    sizes[1] += end - start + 1
    sizes[2] += characters


@inner
def _opened(text: Bytes, at: Int64, family: Int64) -> Int64:
    """Which mark opens at `at`; -1 for none."""
    for place in range(FACTS.shape[1]):
        size = FACTS[family, place, 0]
        if size == 0:
            break
        if _spelled(text, at, SPELLED[family, place, 0], size):
            if FACTS[family, place, 5] and at > 0 and not _is_blank(text[at - 1]) and text[at - 1] != 10:
                continue
            return place
    return -1


@inner
def _closed(text: Bytes, at: Int64, family: Int64, place: Int64) -> Int64:
    """End of the comment or string whose mark is at `at`; the row's end if it is not closed."""
    size, escapes, in_line = FACTS[family, place, 1], FACTS[family, place, 3], FACTS[family, place, 4]
    close = SPELLED[family, place, 1]
    at += FACTS[family, place, 0]
    while at < len(text):
        byte = text[at]
        if escapes and byte == 92:
            at += 2
        elif in_line and byte == 10:
            return at
        elif size > 0 and byte == close[0] and _spelled(text, at, close, size):
            return at + size
        else:
            at += 1
    return len(text)


@inner
def _spelled(text: Bytes, at: Int64, mark: Bytes, size: Int64) -> bool:
    if at + size > len(text):
        return False
    for i in range(size):  # noqa: SIM110  (a generator is slower to compile)
        if text[at + i] != mark[i]:
            return False
    return True


@inner
def _is_blank(byte: Int64) -> bool:
    return bool(byte == 32 or byte == 9 or byte == 12 or byte == 13)


@inner
def _begins_line(text: Bytes, at: Int64) -> bool:
    """True if only blanks, and at most two prefix letters of a Python string, lie before `at` in its line."""
    at -= 1
    for _ in range(2):
        folded = text[at] | 0x20 if at >= 0 else np.uint8(0)
        if folded == 98 or folded == 114 or folded == 117:
            at -= 1
    while at >= 0 and _is_blank(text[at]):
        at -= 1
    return bool(at < 0 or text[at] == 10)
