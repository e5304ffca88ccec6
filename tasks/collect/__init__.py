"""Collect: text from files, docstrings and code, as documents and pairs. The stage is in `stage.py`."""
