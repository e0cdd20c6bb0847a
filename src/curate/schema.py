"""JSON Schemas of what `curate` reads and writes, generated from the code that reads and writes it."""

import dataclasses
from typing import Any

from curate import ledger, store
from curate.errors import RecipeError, nearest
from curate.fit.result import result_schema
from curate.manifest import FORMAT, Manifest, Receipt, Shard, canonical

NAMES = ("document", "manifest", "recipe", "ledger", "tokens", "comparison", "mixture", "fit", "style")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT, _WHOLE, _NUMBER = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "number", "minimum": 0},
)


def schema(name: str) -> dict[str, Any]:
    """The schema called `name`."""
    if name not in NAMES:
        raise RecipeError(f"no schema is called '{name}'{nearest(name, NAMES) or '; there are ' + ', '.join(NAMES)}")
    made: dict[str, Any] = {
        "document": _document,
        "manifest": _manifest,
        "recipe": _recipe,
        "ledger": _ledger,
        "tokens": _tokens,
        "comparison": _comparison,
        "mixture": _mixture,
        "fit": result_schema,
        "style": _style,
    }[name]()
    return {"$schema": _DRAFT, "title": f"curate {name}", **made}


def text(name: str) -> str:
    """A schema as the text of its file."""
    return canonical(schema(name), indent=1).decode()


def write(folder: str) -> None:
    """Write `NAME.json` for every schema."""
    for name in NAMES:
        store.put(store.join(folder, f"{name}.json"), text(name).encode())


def _document() -> dict[str, Any]:
    said = {
        "id": ("string", "XXH3-128 of the text at ingest, 32 hex digits here, 16 bytes in parquet", False),
        "text": ("string", "valid UTF-8", False),
        "source": ("string", "what mixtures weigh", False),
        "source_id": ("string", "the user's own id", True),
        "origin": ("string", "raw file and record number, relative to the recipe", False),
        "url": ("string", "", True),
        "bytes": ("integer", "UTF-8 bytes of the text", False),
    }
    properties = {
        name: {"type": [kind, "null"] if null else kind, **({"description": note} if note else {})}
        for name, (kind, note, null) in said.items()
    }
    return {"type": "object", "properties": properties, "required": list(said), "additionalProperties": True}


def _manifest() -> dict[str, Any]:
    made = _object(
        Manifest,
        {
            "columns": _map(_TEXT),
            "made_by": {"type": "object"},
            "units": _list("receipt"),
            "finish": _list("shard"),
        },
    )
    made["properties"]["format"] = {"const": FORMAT}
    made["properties"]["digest"] = _TEXT
    made["required"] += ["format", "digest"]
    receipt = _object(Receipt, {"shards": _list("shard"), "rejects": _list("shard"), "counts": _map(_map(_WHOLE))})
    receipt["properties"].pop("how")
    receipt["required"].remove("how")
    return {**made, "$defs": {"receipt": receipt, "shard": _object(Shard, {"columns": _map(_TEXT)})}}


def _recipe() -> dict[str, Any]:
    from curate.recipe import adapter, kinds
    from curate.stages.ingest import Ingest

    definitions: dict[str, Any] = {}

    def of(kind: type) -> dict[str, Any]:
        made: dict[str, Any] = adapter(kind).json_schema(ref_template="#/$defs/{model}")
        for field in dataclasses.fields(kind):
            if not field.init:  # filled in when the run is planned
                made["properties"].pop(field.name, None)
        inner = made.pop("$defs", {})
        named = canonical([made, *inner.values()]).decode()
        definitions.update({name: one for name, one in inner.items() if f"#/$defs/{name}" in named})
        return made

    ingest = of(Ingest)
    one = definitions["Input"]
    one["properties"]["files"] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
    whole = {name: value for name, value in ingest["properties"].items() if name != "inputs"}
    one["properties"] |= whole
    stages = []
    for name, kind in sorted(kinds().items()):
        made = of(kind)
        made["properties"] |= {"name": _TEXT, "from": made["properties"].get("from", _TEXT)}
        empty = [] if made.get("required") else [{"type": "null"}]
        entry = {"anyOf": [made, *empty]} if empty else made
        properties = {name: entry, "name": _TEXT, "from": _TEXT}
        stages.append({"type": "object", "properties": properties, "required": [name], "additionalProperties": False})
    inputs = {"anyOf": [{"$ref": "#/$defs/Input"}, {"type": "array", "items": {"$ref": "#/$defs/Input"}}]}
    properties = {
        "name": _TEXT,
        "ingest": inputs,
        "stages": {"type": "array", "items": {"anyOf": [*stages, _TEXT]}},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["ingest", "stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _ledger() -> dict[str, Any]:
    kinds = {"string": "string", "bool": "boolean", "int64": "integer", "double": "number"}
    properties = {
        field.name: {"type": [kinds[str(field.type)], "null"] if field.nullable else kinds[str(field.type)]}
        for field in ledger.SCHEMA
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _tokens() -> dict[str, Any]:
    file = _closed({"name": _TEXT, "bytes": _WHOLE, "sha256": _TEXT})
    shard = _closed({"prefix": _TEXT, "windows": _WHOLE, "tokens": _WHOLE, "files": _map(file)})
    counts = (
        "tokens",
        "windows",
        "padding_tokens",
        "left_out_tokens",
        "documents",
        "available_tokens",
        "available_documents",
    )
    source = _closed(
        {
            **dict.fromkeys(counts, _WHOLE),
            "epochs": _NUMBER,
            "share": _NUMBER,
            "shards": {"type": "array", "items": shard},
        }
    )
    split = _closed({"tokens": _WHOLE, "sources": _map(source), "megatron_blend": {"type": "array", "items": _TEXT}})
    maybe = {"anyOf": [_TEXT, {"type": "null"}]}
    tokenizer = _closed(
        {
            "vocabulary": _WHOLE,
            "end": _TEXT,
            "end_id": _WHOLE,
            "pad": maybe,
            "pad_id": {"type": ["integer", "null"]},
            "sha256": _TEXT,
        }
    )
    phase = _closed({"name": _TEXT, **split["properties"]})
    made = _closed(
        {
            "format": {"const": 1},
            "tokenizer": tokenizer,
            "dtype": {"enum": ["uint16", "uint32"]},
            "window": _WHOLE,
            "packing": {"enum": ["concatenate", "best_fit"]},
            "tail": {"enum": ["drop", "pad"]},
            "seed": _WHOLE,
            "splits": _map(split),
        }
    )
    split["required"].remove("megatron_blend")  # the blend of a split in phases stands in each of them
    made["properties"]["phases"] = {"type": "array", "items": phase}  # only where the mixture has some
    return made


def _mixture() -> dict[str, Any]:
    from curate.stages.mix import mixture_schema

    return mixture_schema()


def _style() -> dict[str, Any]:
    from curate import styles

    return styles.schema()


def _comparison() -> dict[str, Any]:
    truth, maybe = {"type": "boolean"}, {"anyOf": [_TEXT, {"type": "null"}]}
    spread = _closed(
        {"mean": _NUMBER, "std": {"type": ["number", "null"]}, "values": {"type": "array", "items": _NUMBER}}
    )
    taken = {"documents": _WHOLE, "size": _WHOLE, "share": _NUMBER}
    shown = {"type": "array", "items": _closed({"origin": _TEXT, "text": _TEXT})}
    method = _closed(
        {
            "name": _TEXT,
            "where": maybe,
            "available": _WHOLE,
            "short": truth,
            "cut": truth,
            **taken,
            "mean_size": _NUMBER,
            "sources": _map(_closed(taken)),
            "clusters": _or_null(
                _closed({"all": _WHOLE, "covered": _WHOLE, "effective": _NUMBER, "largest_share": _NUMBER})
            ),
            "near_duplicates": _or_null(_closed({"above": _NUMBER, "share": _NUMBER})),
            "examples": _or_null(_closed({"keeps_alone": shown, "drops_alone": shown})),
            "closeness": _closed(
                {**dict.fromkeys(("bits_per_word", "bits_per_byte", "unseen_words"), spread), "sources": _map(spread)}
            ),
        }
    )
    measured = _map(_closed(dict.fromkeys(("documents", "words", "bytes"), _WHOLE)))
    held_out = _closed({"where": maybe, "documents": _WHOLE, "size": _WHOLE, "measured": measured})
    words = _closed({"least": _WHOLE, "most": _WHOLE})
    measure = {"note": _TEXT, "most": _WHOLE, "model": _TEXT, "discount": _NUMBER, "vocabulary": _WHOLE}
    variance = {"type": "array", "items": _NUMBER}
    return _closed(
        {
            "run": _TEXT,
            "of": _TEXT,
            "unit": {"enum": ["tokens", "words", "bytes"]},
            **dict.fromkeys(("documents", "size", "budget", "seeds"), _WHOLE),
            "by": _TEXT,
            "methods": {"type": "array", "items": method},
            "overlap": _closed(dict.fromkeys(("jaccard", "contained"), _map(_map(_NUMBER)))),
            "among": maybe,
            "held_out": held_out,
            "measure": _closed({**measure, "unknown_words": _WHOLE, "words_per_model": words}),
            "map": _or_null(_closed({"file": _TEXT, "documents": _WHOLE, "variance": variance})),
        }
    )


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


def _object(kind: type, special: dict[str, Any]) -> dict[str, Any]:
    plain: dict[Any, dict[str, Any]] = {str: _TEXT, int: _WHOLE}
    properties = {
        field.name: special.get(field.name) or plain.get(field.type, {}) for field in dataclasses.fields(kind)
    }
    return _closed(properties)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}


def _map(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}
