"""Search files by meaning: walk, read, chunk, rank, show. `search` does it all; see docs/search.md."""

from nestling.search.model import Embedder
from nestling.search.results import Hit, Passage, Problem, Report
from nestling.search.run import search

__all__ = ["Embedder", "Hit", "Passage", "Problem", "Report", "search"]
