"""The methods, one to a file. Adding one: its file, its name here, a test with the paper's example, a recipe line."""

from curate.stages.clean import Clean
from curate.stages.cluster import Cluster
from curate.stages.code import Code
from curate.stages.concat import Concat
from curate.stages.confirm import Confirm
from curate.stages.embed import Embed
from curate.stages.exact import Exact
from curate.stages.heuristics import Heuristics
from curate.stages.language import Language
from curate.stages.mix import Mix
from curate.stages.near import Near
from curate.stages.pack import Pack
from curate.stages.prune import Prune
from curate.stages.rank import Rank
from curate.stages.rate import Rate
from curate.stages.repeated_lines import RepeatedLines
from curate.stages.rephrase import Rephrase
from curate.stages.select import Select
from curate.stages.semantic import Semantic
from curate.stages.target import Target
from curate.stages.tokenize import Tokenize

STAGES = (
    Language,
    Heuristics,
    Code,
    Exact,
    Clean,
    RepeatedLines,
    Near,
    Confirm,
    Embed,
    Cluster,
    Semantic,
    Prune,
    Target,
    Rate,
    Rank,
    Select,
    Rephrase,
    Concat,
    Tokenize,
    Mix,
    Pack,
)
