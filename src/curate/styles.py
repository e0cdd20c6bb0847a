"""Styles of rephrasing: what a generator is asked, of which passages, and what its answer must be like.

A style is one small YAML file, of `resources/styles` or the user's own. It holds all that its rows depend on besides
the model, so that a changed prompt is a changed style: raise its `version`.

The catch: a prompt is only a request. What comes back is judged by `generations` and brought into form by `assembly`.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from curate import store, strict
from curate.errors import RecipeError, nearest

FOLDER = store.join(store.parent(store.absolute(__file__)), "resources", "styles")
PLACE = "{text}"
"""Where the passage goes in a prompt: once."""
LARGEST = 10_000_000
"""Tokens that any size of a style may have."""
MARGIN = 2
"""Tokens that Nemotron-CC leaves free beside the prompt and the passage."""

Check = Literal[
    "too_short", "garbled", "refusal", "markup", "echo", "length_ratio", "copied", "pairs", "loop", "language"
]
Step = Literal["markdown", "opening", "quotes", "labels", "bullets", "pairs"]
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument")


@dataclass(frozen=True)
class Cut:
    """Passages that a style takes, sizes in tokens of the generator's tokenizer; see `passages.passages`.

    split: `sentences`, up to `most` tokens; or `lines`, as many as leave room for the prompt in `input` tokens.
    least: of a passage. document: of a whole document.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    split: Literal["sentences", "lines"]
    least: int
    most: int | None = None
    input: int | None = None
    document: int = 0

    def __post_init__(self) -> None:
        size, other = ("most", "input") if self.split == "sentences" else ("input", "most")
        if getattr(self, size) is None or getattr(self, other) is not None:
            raise ValueError(f"`split: {self.split}` goes with `{size}`, not with `{other}`")
        if not 0 <= self.least <= getattr(self, size):
            raise ValueError(f"`least` is from 0 to `{size}`, found {self.least}")
        if self.document < 0:
            raise ValueError(f"`document` is 0 or more, found {self.document}")
        if max(getattr(self, size), self.document) > LARGEST:
            raise ValueError(f"sizes are at most {LARGEST:,} tokens")


@dataclass(frozen=True)
class Sampler:
    """How the generator draws. top_k: 0 is no limit, and is not sent. max_tokens: after which it is cut short."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    temperature: float
    top_p: float
    max_tokens: int
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"`temperature` is from 0 to 2, found {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` is above 0 and at most 1, found {self.top_p}")
        if not 1 <= self.max_tokens <= LARGEST or not 0 <= self.top_k <= LARGEST:
            raise ValueError(f"`max_tokens` is from 1 to {LARGEST:,}, and `top_k` from 0")


@dataclass(frozen=True)
class Output:
    """What an answer must be like, sizes in tokens. least: below it is nothing. most: above it was cut short. final:
    least of the finished row. opening: the line that the prompt asks for first. ratio: lowest and highest share of the
    passage's tokens. skip: checks that do not fit this style."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    least: int
    most: int | None = None
    final: int = 0
    opening: str | None = None
    ratio: tuple[float, float] | None = None
    skip: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        if self.least < 0 or self.final < 0 or (self.most is not None and self.most < max(self.least, 1)):
            raise ValueError("`least` and `final` are 0 or more, `most` is not below `least`")
        if self.opening is not None and (not self.opening.strip() or self.opening != self.opening.strip()):
            raise ValueError(f"`opening` has text and no white space at its ends, found {self.opening!r}")
        if self.ratio is not None and not 0 <= self.ratio[0] < self.ratio[1] < float("inf"):
            raise ValueError(f"`ratio` is the lowest and the highest, found {list(self.ratio)}")


@dataclass(frozen=True)
class Assembly:
    """How an answer becomes text. steps: of `assembly.tidy`, in order. layout: a row for each `passage`, or one for a
    `document`, its passages joined."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    steps: tuple[Step, ...] = ()
    layout: Literal["passage", "document"] = "passage"

    def __post_init__(self) -> None:
        if len(set(self.steps)) < len(self.steps):
            raise ValueError(f"each of `steps` comes once, found {', '.join(self.steps)}")
        if "pairs" in self.steps and self.layout == "document":
            raise ValueError("`pairs` are put behind their own passage: `layout` is passage")


@dataclass(frozen=True)
class Style:
    """A style. version: raised with every change of `system` or `prompt`. prompt: holds {text} once. source: where
    its numbers are from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    name: str
    version: int
    system: str
    prompt: str
    passages: Cut
    sampling: Sampler
    output: Output
    assembly: Assembly = field(default_factory=Assembly)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"`name` has letters, digits, - and _, found {self.name!r}")
        if self.version < 1:
            raise ValueError(f"`version` is 1 or more, found {self.version}")
        if self.prompt.count(PLACE) != 1:
            raise ValueError(f"`prompt` has {PLACE} once, where the passage goes; found {self.prompt.count(PLACE)}")
        if PLACE in self.system:
            raise ValueError(f"`system` has no {PLACE}; the passage goes in `prompt`")
        if not self.instructions.split():
            raise ValueError("`prompt` asks for nothing")
        if "opening" in self.assembly.steps and not self.output.opening:
            raise ValueError("the step `opening` needs `opening` in `output`")
        if self.output.most is not None and self.output.most > self.sampling.max_tokens:
            raise ValueError(f"`most` of `output` is at most `max_tokens`, {self.sampling.max_tokens}")

    @property
    def instructions(self) -> str:
        """The words that are ours, without a passage: what must not come back in an answer."""
        before, _, after = self.prompt.partition(PLACE)
        return "\n".join(part.strip() for part in (self.system, before, after) if part.strip())

    def identity(self) -> dict[str, Any]:
        """All that rows depend on, as JSON: everything but `source`."""
        made: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {key: value for key, value in made.items() if key != "source"}


def messages(style: Style, text: str) -> list[dict[str, str]]:
    """What the generator is sent for a passage. The passage is put in as it is: nothing in it is looked at."""
    before, _, after = style.prompt.partition(PLACE)
    system = [{"role": "system", "content": style.system}] if style.system else []
    return [*system, {"role": "user", "content": f"{before}{text}{after}"}]


def most(style: Style, count: Callable[[str], int]) -> int:
    """Tokens of the largest passage. `count` gives a text's tokens.

    For lines what the prompt leaves of `input`, less two. RecipeError if that is less than the smallest passage.
    """
    if style.passages.most is not None:
        return style.passages.most
    assert style.passages.input is not None
    asked = sum(count(one["content"]) for one in messages(style, ""))
    room = style.passages.input - asked - MARGIN
    if room < max(style.passages.least, 1):
        raise RecipeError(
            f"style '{style.name}': its prompt takes {asked} of {style.passages.input} tokens (`input`) and leaves "
            f"{max(room, 0)} for a passage of at least {style.passages.least}; shorten it or raise `input`"
        )
    return room


@cache
def names() -> tuple[str, ...]:
    """The styles that come with the package."""
    return tuple(sorted(file.removesuffix(".yaml") for file in store.listing(FOLDER) if file.endswith(".yaml")))


def is_file(name: str) -> bool:
    """True for the location of a style, False for the name of one."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def style(name: str) -> Style:
    """A style by name, or by the location of its file, which has a `/` or ends in .yaml or .yml. RecipeError, with
    file, line and nearest word, for what is not as it should be."""
    if not is_file(name):
        if name not in names():
            raise RecipeError(
                f"no style is called '{name}'{nearest(name, names()) or '; there are ' + ', '.join(names())}"
                " (a style of your own is given by its path, as in ./my_style.yaml)"
            )
        return _parsed(store.join(FOLDER, f"{name}.yaml"), store.read(store.join(FOLDER, f"{name}.yaml")))
    if not store.exists(name):
        raise RecipeError(f"there is no style {name}")
    return _parsed(name, store.read(name))


def schema() -> dict[str, Any]:
    """JSON Schema of a style's file."""
    made: dict[str, Any] = _adapter().json_schema()
    return made


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Style)


@cache
def _parsed(location: str, content: bytes) -> Style:
    from pydantic import ValidationError

    try:
        text = content.decode("utf-8-sig")
        raw, tree = strict.load(text)
        if not isinstance(raw, dict) or tree is None:
            raise RecipeError(f"a style is a mapping with {', '.join(_words(Style, ()))}; found {type(raw).__name__}")
        try:
            made: Style = _adapter().validate_json(json.dumps(raw, default=str))
        except ValidationError as error:
            # A misspelt key is also a missing one: the misspelling is what helps.
            first = min(error.errors(), key=lambda one: one["type"] not in _UNKNOWN)
            raise RecipeError(f"line {strict.line(tree, first['loc'])}: {_said(first)}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{location} is no UTF-8 text: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{location}: {error}") from error
    return made


def _said(error: Any) -> str:
    path = tuple(error["loc"])
    name = ".".join(map(str, path))
    if error["type"] in _UNKNOWN:
        words = _words(Style, path)
        return f"unknown key '{name}'{nearest(str(path[-1]), words) or '; keys are ' + ', '.join(words)}"
    if error["type"] in _MISSING:
        return f"a style needs `{name}:`"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{name}: {message}" if name else message
    hint = nearest(str(error["input"]), [*get_args(Check), *get_args(Step)]) if error["type"] == "literal_error" else ""
    return f"`{name}`: {message[0].lower()}{message[1:]}, found {error['input']!r}{hint}"


def _words(kind: Any, path: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where the path ends."""
    for part in path[:-1]:
        hint = get_type_hints(kind).get(str(part))
        kind = hint if dataclasses.is_dataclass(hint) else kind
    return [one.name for one in dataclasses.fields(kind)]
