"""Pages: the main text of web pages, read in a child process that can be killed. `PageReader` is in `reader.py`."""
