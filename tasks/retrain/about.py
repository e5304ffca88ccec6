"""What the stage verdict says about itself."""

from tasks.engine.about import About, not_about_documents

VERDICT = About(work=None, explain=not_about_documents)
