"""Filter: drop documents by rules whose values are stored, and clean the lines of those that stay."""

from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents

__all__ = ["FilterConfig", "filter_documents"]
