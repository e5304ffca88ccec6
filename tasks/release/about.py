"""What the stage release says about itself."""

from tasks.engine.about import About, not_about_documents

RELEASE = About(work=None, explain=not_about_documents)
