"""What may import what, who may print and open, how large a file and a function may be: read from the syntax trees."""

import ast
import dataclasses
import resource
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.stage import Stage
from curate.stages import STAGES
from curate.stages.ingest import Ingest

ROOT = Path(__file__).parents[1]

LAYERS = (
    "kernels",
    "errors",
    "store groups slices strict",
    "languages quotas laws styles",
    "utility apportion",
    "policies markup",
    "hub",
    "serving",
    "arrow streams assets manifest expressions trainers execute",
    "mixture_plan mixture_sizes",
    "certificate mixture_drawn",
    "mixture",
    "scatter bigrams importance signals fasttext models rewriting scopes sketch segment tensors sequences",
    "token_table transformer",
    "embedding",
    "draw exchange ledger view standing index passages assembly",
    "identify wording",
    "generations faithfulness diversity",
    "stage edits",
    "generate generate.request generate.limits generate.progress",
    "generate.budget",
    "generate.answers generate.service",
    "generate.reply generate.lanes generate.endings",
    "generate.books generate.batch",
    "generate.feed",
    "generate.dispatch",
    "generate.client",
    "components windows proof index_contents kmeans pruning cuts fit fit.result",
    "survival transport targeting",
    "semantic_pairs rounds",
    "rephrasing asking",
    "stages.*",
    "files",
    "columns",
    "jsonl",
    "records",
    "raw",
    "stages",
    "recipe",
    "plan unit",
    "joining",
    "run forecast",
    "outputs filtering preview schema report demo",
    "verify selection indexing candidates",
    "overlap fit.tables fit.averaging fit.utility fit.designs fit.runs fit.regressors",
    "comparison fit.weights fit.projektor fit.regmix fit.regmix_report fit.partition",
    "fit.ablation proxy",
    "near_measure",
    "near_sample",
    "near_report",
    "whatif look why compare compare_report mix_report",
    "compare_verb mix_verb plan_tokens_verb serve_local_verb rephrase_verb",
    "fit.regmix_verb fit.utility_verb fit.ablation_verb fit.projektor_verb fit.weights_verb",
    "fit_verbs",
    "cli",
    "flows",
)
"""Left, or above, never imports below, and neighbours in a line know nothing of each other."""

ONLY = {
    "prefect": ("flows",),
    "ray": ("flows",),
    "prefect_ray": ("flows",),
    "cloudpickle": ("flows",),
    "fsspec": ("store",),
    "pathlib": ("cli", "demo"),
    "rich": ("report", "preview", "near_report", "compare_report", "mix_report", "fit.regmix_report"),
    "numba": ("kernels",),
    "llvmlite": ("kernels",),
    "fcntl": ("store", "serving", "generate.answers"),
    "sentencex": ("passages",),
    "tokenizers": ("stages.tokenize", "stages.rephrase", "demo", "token_table", "passages"),
    "fastokens": ("stages.tokenize",),
    "torch": ("transformer", "proxy"),
    "sentence_transformers": ("transformer",),
    "transformers": ("transformer",),
    "onnxruntime": ("transformer",),
    "huggingface_hub": ("hub",),
    "httpx": ("generate.lanes",),
    "sqlite3": ("generate.answers",),
    "lightgbm": ("fit.regressors",),
    "xllamacpp": ("serving",),
    "pandas": (),
}
KERNELS_MAY = {"numpy", "numba", "llvmlite"}
PRINTERS = ("cli", "report", "flows")


def rank(module: str) -> int:
    head = module.partition(".")[0]
    wanted = "stages.*" if module.startswith("stages.") else "flows" if head == "flows" else module
    wanted = "kernels" if head == "kernels" else wanted
    for index, layer in enumerate(LAYERS):
        if wanted in layer.split():
            return index
    raise AssertionError(f"{module} stands in no layer: give it a place in LAYERS")


def modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Name below the package (`flows.x` for flows) and tree of every source file but the package's own."""
    for base, prefix in ((root / "src" / "curate", ""), (root / "flows", "flows.")):
        for file in sorted(base.rglob("*.py")):
            name = prefix + ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
            if name != "__init__":
                yield name, ast.parse(file.read_text("utf-8"), str(file))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str, known: set[str]) -> str | None:
    """The module of the package that an imported name comes from: `curate.stages.exact.Exact` is `stages.exact`."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts) or None


def allowed(module: str, names: tuple[str, ...]) -> bool:
    return module in names or module.partition(".")[0] in names


def violations(root: Path) -> list[str]:
    every = list(modules(root))
    known = {name for name, _ in every}
    found = []
    for module, tree in every:
        for name in imports(tree):
            package = name.partition(".")[0]
            if package == "curate":
                target = ours(name, known)
                inside = module.startswith("kernels") and (target or "").startswith("kernels")
                if target and not inside and rank(target) >= rank(module):
                    found.append(f"{module} imports {target}")
                continue
            strange = module.startswith("kernels") and package not in KERNELS_MAY | set(sys.stdlib_module_names)
            if package != "curate" and (strange or not allowed(module, ONLY.get(package, (module,)))):
                found.append(f"{module} imports {package}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "print" and not allowed(module, PRINTERS):
                    found.append(f"{module} prints")
                if node.func.id == "open" and not allowed(module, ("store", "kernels")):
                    found.append(f"{module} opens")
    return found


def test_no_module_knows_what_stands_after_it():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("store", "from curate.arrow import utf8", "store imports arrow"),
        ("arrow", "from curate import exchange", "arrow imports exchange"),
        ("view", "from curate import ledger", "view imports ledger"),
        ("stages/exact", "from curate.stages.select import Select", "stages.exact imports stages.select"),
        ("stages/exact", "import curate.run", "stages.exact imports run"),
        ("stages/exact", "def f():\n    from prefect import task", "stages.exact imports prefect"),
        ("run", "import torch", "run imports torch"),
        ("run", "from pathlib import Path", "run imports pathlib"),
        ("run", "import fsspec.core", "run imports fsspec"),
        ("run", "print('working')", "run prints"),
        ("run", "data = open('raw.json').read()", "run opens"),
        ("kernels/hash", "import pyarrow", "kernels.hash imports pyarrow"),
        ("kernels/hash", "from curate.errors import DataError", "kernels.hash imports errors"),
        ("recipe", "from curate.cli import main", "recipe imports cli"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path, module, line, said):
    package = tmp_path / "src" / "curate"
    for name, _ in modules(ROOT):
        if not name.startswith("flows"):
            file = package / (name.replace(".", "/") + ("/__init__.py" if name in ("stages", "kernels") else ".py"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("import os\nfrom curate.kernels import bits\n" if name == "arrow" else "")
    assert violations(tmp_path) == []
    (package / f"{module}.py").write_text(line + "\n")
    assert violations(tmp_path) == [said]


def test_files_and_functions_are_of_a_size_to_read():
    large = []
    for base in (ROOT / "src", ROOT / "flows"):
        for file in base.rglob("*.py"):
            text = file.read_text("utf-8")
            if (lines := text.count("\n")) > 500:
                large.append(f"{file.name}: {lines} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert node.end_lineno is not None
                    if (lines := node.end_lineno - node.lineno + 1) > 80:
                        large.append(f"{file.name}: {node.name} has {lines} lines")
    assert large == []


@pytest.mark.parametrize("stage", [*STAGES, Ingest], ids=lambda stage: stage.kind)
def test_facts_of_a_stage_are_no_parameters(stage):
    # Without ClassVar a fact would become a field: a parameter of the recipe, and part of identity.
    facts = {name for name, kind in Stage.__annotations__.items() if typing.get_origin(kind) is typing.ClassVar}
    assert {"kind", "version", "gathers", "asset_fields"} <= facts
    assert not facts & {field.name for field in dataclasses.fields(stage)}
    for name, value in vars(stage).items():
        if name in facts and not name.startswith("__"):
            assert typing.get_origin(stage.__annotations__.get(name)) is typing.ClassVar, (stage, name, value)
    assert isinstance(stage.version, int)
    assert len({one.kind for one in (*STAGES, Ingest)}) == len(STAGES) + 1


def test_help_answers_at_once():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "curate.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_help_imports_nothing_heavy():
    code = (
        "import sys, curate.cli\n"
        "try: curate.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'pyarrow', 'polars', 'pydantic', 'rich', 'numba', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_has_no_entry_from_python_is_called_by_kernels_alone() -> None:
    """A function without an entry from Python is not refused when Python calls it: the process dies."""
    trees = dict(modules(ROOT))
    closed = {
        (name, node.name)
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and decorators(node) & {"inner", "maker"}
    }
    assert closed
    outside = []
    for name, tree in trees.items():
        known = {function for module, function in closed if module == name}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module.removeprefix("curate.")
                known |= {one.asname or one.name for one in node.names if (module, one.name) in closed}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not decorators(node) & {"inner", "maker", "kernel", "njit"}:
                called = {
                    one.func.id
                    for one in ast.walk(node)
                    if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
                }
                outside += [f"{name}.{node.name} calls {one}" for one in sorted(called & known)]
    assert outside == []


def decorators(function: ast.FunctionDef) -> set[str]:
    """Names that a function's decorators mention."""
    return {node.id for one in function.decorator_list for node in ast.walk(one) if isinstance(node, ast.Name)}
