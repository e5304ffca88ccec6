"""What the stage fetch says about itself."""

from typing import Any

from tasks.engine.about import About, not_about_documents


def _compared(config: Any) -> dict[str, Any]:
    return {"sources": ", ".join(source.name for source in (*config.web, *config.huggingface, *config.files))}


FETCH = About(
    work=None, same_kinds=("web",), compared=_compared, headline={"pages": "pages"}, explain=not_about_documents
)
