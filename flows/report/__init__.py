"""The report: one HTML file for each run that shows, without the docs, what was made, from what, and what it is worth.

| module | what it does |
|---|---|
| run_data.py | a run file with the artifacts and build records it names |
| drops.py, signals.py, corpus.py, training.py, scores.py | figures of one section each, read from parts, streamed |
| record.py | what the run file and the build records say |
| charts.py, section_charts.py | SVG from figures; which chart each section has |
| wording.py | figures as words |
| page.py | all of it as HTML through the templates beside it |
| templates.py | the templates and the style that pages share |
| datasheet/ | the datasheet: the corpus of a run by itself |
| summary.py | the key figures as Markdown, for Prefect |

The file holds all it shows: no script, no request. It depends on the run file and the store alone, so `llmill report`
writes the same bytes again. A part that is gone leaves its section out.
"""
