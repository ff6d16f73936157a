"""How candidates are proposed: from trained logits, or by searches that evaluate networks one after another."""

from trainers.search.searchers.searcher import SEARCHERS, Searcher

__all__ = ["SEARCHERS", "Searcher"]
