"""Collect: text from files, docstrings and code, as documents and pairs. The stage stands in `stage.py`."""
