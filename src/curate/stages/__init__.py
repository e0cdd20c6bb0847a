"""The methods, one to a file. Adding one: its file, its name here, a test with the paper's example, a recipe line."""

from curate.stages.exact import Exact
from curate.stages.heuristics import Heuristics
from curate.stages.mix import Mix
from curate.stages.pack import Pack
from curate.stages.select import Select
from curate.stages.tokenize import Tokenize

STAGES = (Heuristics, Exact, Select, Tokenize, Mix, Pack)
