"""Stage release: a folder that transformers loads unchanged, with its card, scores and samples."""

from tasks.release.config import ReleaseConfig
from tasks.release.stage import make_release

__all__ = ["ReleaseConfig", "make_release"]
