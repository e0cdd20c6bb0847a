"""YAML as recipes and rule sets may use it: words and values, every key once. No tags, no nesting without end."""

from typing import Any

import yaml

from curate.errors import RecipeError

DEPTH = 100


def load(text: str | bytes) -> tuple[Any, yaml.Node | None]:
    """The value that a text says, and its tree for lines. RecipeError, with the line, for what has no place in it."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is not None:
            _refuse_odd(tree)
        return yaml.safe_load(text), tree
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{at}not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except (ValueError, RecursionError) as error:  # a date that is none; brackets in thousands of brackets
        said = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(f"not valid YAML: {said}") from error


def _refuse_odd(node: yaml.Node, above: tuple[yaml.Node, ...] = ()) -> None:
    """What YAML allows and nobody here needs: a key twice, a key that is no word, a node inside itself."""
    line = node.start_mark.line + 1
    if any(node is one for one in above):
        raise RecipeError(f"line {line}: what stands here holds itself")
    if len(above) > DEPTH:
        raise RecipeError(f"line {line}: nested too deep")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError(f"line {line}: a key is a word, found a {key.id}")
            if key.tag.rpartition(":")[2] in ("bool", "null"):
                word = key.value or "nothing"
                raise RecipeError(f"line {line}: {word} is no word in YAML but a value; write '{word}' with quotes")
            if key.value in seen:
                raise RecipeError(f"line {line}: '{key.value}' stands here a second time")
            seen.add(key.value)
            _refuse_odd(value, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_odd(value, (*above, node))


def line(node: yaml.Node, path: tuple[Any, ...]) -> int:
    """Line of the deepest node on the path that the text has."""
    number = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return number
            number, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            number = node.start_mark.line + 1
        else:
            return number
    return number
