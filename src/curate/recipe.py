"""A recipe: where raw files are, and the ordered stages they go through. YAML in, stages out, strict.

There is no inheritance, no template and no code in a recipe, so it says all there is to say. Every mistake is named
with its line, its stage and the nearest valid word, before any work.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, get_args, get_type_hints

import yaml

from curate import hub, store, strict
from curate.assets import KNOWN
from curate.errors import RecipeError, StoreError, nearest
from curate.stage import Stage
from curate.stages import STAGES
from curate.stages.ingest import Ingest, Input

_TOP = ("name", "ingest", "stages")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument")


@dataclass(frozen=True)
class Node:
    """One stage of a recipe. `prefix` goes before the columns of an annotator that was given a name of its own."""

    name: str
    stage: Stage
    source: str | None
    prefix: str
    line: int


@dataclass(frozen=True)
class Recipe:
    """What to do. `root` is the folder that raw files and assets are relative to, `uri` the file that says it."""

    name: str
    root: str
    ingest: Ingest
    nodes: tuple[Node, ...]
    uri: str = ""


def load(uri: str) -> Recipe:
    """Read a recipe file; raw files and assets are relative to its folder."""
    if not store.exists(uri):
        raise RecipeError(f"no recipe at {uri}")
    try:
        text = store.read(uri)
    except StoreError as error:
        raise RecipeError(f"no recipe at {uri}: {error}") from error
    try:
        return dataclasses.replace(parse(text.decode("utf-8-sig"), root=store.parent(store.absolute(uri))), uri=uri)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{uri} is no UTF-8 text: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{uri}: {error}") from error


def parse(text: str, *, root: str) -> Recipe:
    """A recipe from YAML text."""
    raw, tree = strict.load(text)
    if not isinstance(raw, dict) or tree is None:
        raise RecipeError(f"a recipe is a mapping with {', '.join(_TOP)}; found {type(raw).__name__}")
    for key in raw:
        if key not in _TOP:
            raise RecipeError(
                f"line {strict.line(tree, (key,))}: unknown key '{key}'"
                + (nearest(str(key), _TOP) or "; keys are " + ", ".join(_TOP))
            )
    if isinstance(raw.get("name"), dict | list):
        raise RecipeError(f"line {strict.line(tree, ('name',))}: `name:` is a word, found {raw['name']!r}")
    for key in ("ingest", "stages"):
        if not raw.get(key):
            raise RecipeError(f"a recipe needs `{key}:`")
    if not isinstance(raw["stages"], list):
        raise RecipeError(f"line {strict.line(tree, ('stages',))}: `stages:` is a list, each line `- KIND: {{...}}`")
    ingest = _ingest(raw["ingest"], tree)
    nodes = _named([_node(item, index, tree, root) for index, item in enumerate(raw["stages"])])
    return Recipe(str(raw.get("name") or "recipe"), root, ingest, nodes)


def build(kind: type[Stage], parameters: dict[str, Any], *, where: str = "") -> Stage:
    """A stage from plain parameters, checked strictly; errors name the parameter."""
    return _build(kind, parameters, lambda path: where or kind.kind, f"'{kind.kind}'")


def adapter(kind: Any) -> Any:
    """The pydantic adapter of a stage: its checks, and its JSON Schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def kinds() -> dict[str, type[Stage]]:
    """Stages by kind."""
    return {stage.kind: stage for stage in STAGES}


def _ingest(raw: Any, tree: yaml.Node) -> Ingest:
    """One mapping, or a list of them; what belongs to the whole (`shard_bytes`, ...) stands in any of them."""
    shared: dict[str, Any] = {}
    whole = {field.name for field in dataclasses.fields(Ingest)} - {"inputs"}
    inputs = []
    for index, item in enumerate(raw if isinstance(raw, list) else [raw]):
        if not isinstance(item, dict):
            raise RecipeError(
                f"line {strict.line(tree, ('ingest',))}: `ingest:` is a mapping with `files:` and `source:`"
            )
        for key, value in item.items():
            if key in whole and shared.setdefault(key, value) is not value and shared[key] != value:
                raise RecipeError(
                    f"line {strict.line(tree, ('ingest', index, key))}: ingest: `{key}` is for all inputs and was "
                    f"{shared[key]!r} before, found {value!r}"
                )
        one = {key: value for key, value in item.items() if key not in whole}
        if isinstance(one.get("files"), str):
            one["files"] = [one["files"]]
        inputs.append(one)

    def where(path: tuple[Any, ...]) -> str:
        if path[:1] == ("inputs",):
            path = path[1:] if isinstance(raw, list) else path[2:]
        return f"line {strict.line(tree, ('ingest', *path))}: ingest"

    made = _build(Ingest, {**shared, "inputs": inputs}, where, "")
    assert isinstance(made, Ingest)
    return made


def _node(item: Any, index: int, tree: yaml.Node, root: str) -> Node:
    at = f"line {strict.line(tree, ('stages', index))}: stages[{index}]"
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, dict):
        raise RecipeError(f"{at}: a stage is `KIND:` with parameters, found {item!r}")
    names = [key for key in item if key not in ("name", "from")]
    known = kinds()
    if len(names) != 1:
        raise RecipeError(f"{at}: one stage each line of the list, found {names or 'none'}")
    kind = str(names[0])
    if kind not in known:
        raise RecipeError(
            f"{at}: no stage is called '{kind}'"
            + (nearest(kind, list(known)) or "; stages are " + ", ".join(sorted(known)))
        )
    parameters = item[kind] if item[kind] is not None else {}
    if not isinstance(parameters, dict):
        raise RecipeError(f"{at} '{kind}': parameters are a mapping, found {parameters!r}")
    parameters = dict(parameters)
    name = item.get("name") or parameters.pop("name", None)
    source = item.get("from") or (parameters.pop("from") if isinstance(parameters.get("from"), str) else None)
    if name is not None and (not isinstance(name, str) or not name.replace("_", "").isalnum()):
        raise RecipeError(f"{at} '{kind}': a name has letters, digits and _, found {name!r}")
    if source is not None and not isinstance(source, str):
        raise RecipeError(f"{at} '{kind}': `from:` is the name of one stage, found {source!r}")

    def where(path: tuple[Any, ...]) -> str:
        return f"line {strict.line(tree, ('stages', index, kind, *path))}: stages[{index}] '{kind}'"

    stage = _build(known[kind], parameters, where, "").located(partial(_place, root))
    prefix = f"{name}_" if name and not stage.gathers else ""
    return Node(str(name or kind), stage, source, prefix, strict.line(tree, ("stages", index)))


def _named(nodes: list[Node]) -> tuple[Node, ...]:
    seen: dict[str, Node] = {}
    for node in nodes:
        if node.name in seen and node.name == node.stage.kind:
            node = _again(node, list(seen.values()))
        if node.name in seen or node.name == "ingest":
            other = f"line {seen[node.name].line}" if node.name in seen else "the raw documents"
            raise RecipeError(f"line {node.line}: '{node.name}' is taken by {other}; give this stage a `name:`")
        if node.stage.branches and node.source is not None:
            raise RecipeError(f"line {node.line}: '{node.name}' joins the steps in `of`; `from:` does not go with it")
        for name in (*([node.source] if node.source is not None else []), *node.stage.branches):
            if name not in seen and name != "ingest":
                hint = nearest(name, list(seen)) or f"; before it are {', '.join(['ingest', *seen])}"
                raise RecipeError(f"line {node.line}: '{node.name}' is from '{name}', no stage before it{hint}")
        seen[node.name] = node
    return tuple(seen.values())


def _again(node: Node, before: list[Node]) -> Node:
    """A stage without a name that stands again behind one that rewrote the text is called after that one."""
    names = [other.name for other in before]
    rewriters = [other.name for other in before[names.index(node.name) + 1 :] if other.stage.rewrites]
    return dataclasses.replace(node, name=f"{node.name}_{rewriters[-1]}") if rewriters else node


def _build(kind: type[Stage], parameters: dict[str, Any], where: Any, label: str) -> Stage:
    from pydantic import ValidationError

    try:
        made = adapter(kind).validate_json(json.dumps(parameters, default=str))
    except ValidationError as error:
        # A misspelt parameter is also a missing one: the misspelling is what helps.
        first = min(error.errors(), key=lambda one: one["type"] not in _UNKNOWN)
        path = first["loc"]
        known = kind.elsewhere.get(str(path[0])) if len(path) == 1 and first["type"] in _UNKNOWN else None
        said = known or _said(first, _shown(first, parameters), _words(kind, path))
        raise RecipeError(f"{where(path)} {label}".rstrip() + f": {said}") from error
    except RecipeError as error:
        raise RecipeError(f"{where(())} {label}".rstrip() + f": {error}") from error
    assert isinstance(made, Stage)
    return made


def _said(error: Any, name: str, words: list[str]) -> str:
    if error["type"] in _UNKNOWN:
        last = str(error["loc"][-1])
        return f"unknown parameter '{name}'{nearest(last, words) or '; parameters are ' + ', '.join(words)}"
    if error["type"] in _MISSING:
        return f"needs `{name}:`"
    message = error["msg"].removeprefix("Value error, ")
    said = f"`{name}`: {message[0].lower()}{message[1:]}, found {error['input']!r}" if name else message
    return said + _as_number(error["input"])


def _as_number(given: Any) -> str:
    """What is right instead of `1e-3`, which is a word in YAML 1.1 for want of a point."""
    if not (isinstance(given, str) and re.fullmatch(r"[+-]?[0-9.]{1,20}e[+-]?[0-9]{1,2}", given, re.IGNORECASE)):
        return ""
    try:
        return f", which is a word to YAML; write {Decimal(given):f}"
    except InvalidOperation:
        return ""


def _shown(error: Any, given: Any) -> str:
    """The path of an error as the recipe has it: without the places that only our types have."""
    path: list[str] = []
    for part in error["loc"]:
        if (isinstance(given, dict) and part in given) or (isinstance(given, list) and isinstance(part, int)):
            path.append(str(part))
            given = given[part]
    if error["type"] in _MISSING:
        path.append(str(error["loc"][-1]))
    return ".".join(path[2:] if path[:1] == ["inputs"] else path)


def _words(kind: Any, path: tuple[int | str, ...]) -> list[str]:
    """The parameters that may stand where the path ends."""
    for part in path[:-1]:
        hint = get_type_hints(kind).get(str(part))
        kind = next((inner for inner in _inside(hint) if dataclasses.is_dataclass(inner)), kind)
    # What belongs to the whole of ingest is written beside what belongs to one input.
    fields = (*dataclasses.fields(kind), *(dataclasses.fields(Ingest) if kind is Input else ()))
    return [field.name for field in fields if field.init and field.name != "inputs"]


def _inside(hint: Any) -> list[Any]:
    return [hint, *(inner for argument in get_args(hint) for inner in _inside(argument))]


def _place(root: str, value: str) -> str:
    """Where a file is that a recipe in `root` names; what is in a package or on the hub, or a known model, is found
    later."""
    if value.startswith(("package:", hub.PREFIX)) or "://" in value:
        return value
    place = store.absolute(value if value.startswith("/") else store.join(root, value))
    return value if value in KNOWN and not store.exists(place) else place
