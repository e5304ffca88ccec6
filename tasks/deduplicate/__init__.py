"""Deduplicate: one document of each cluster of exact and near duplicates."""

from tasks.deduplicate.config import DeduplicateConfig
from tasks.deduplicate.stage import deduplicate

__all__ = ["DeduplicateConfig", "deduplicate"]
