"""The datasheet of a run's corpus, after Gebru et al. 2021 (Datasheets for Datasets): one HTML page and one JSON file.

| module | what it does |
|---|---|
| sheet.py | gathers the facts, writes both files, and puts them into a copy of a release |
| lineage.py | which stages made the corpus, and what is missing of it |
| corpus.py | what is in it: documents by source, licence and language, supervised rows, examples of what was kept |
| treatment.py | what each of those stages read, dropped and found, with examples and the ids in its ledger |
| personal.py | personal data by kind |
| record.py | sources, settings, files, versions, digests |
| questions.py | the questions of a datasheet: which the run answers, which a person has to |
| shown.py | texts without personal data |
| facts.py | all of it, frozen, as it stands in the JSON |

No stage is known by its name: the corpus is the last part `documents` of the run, and what it was made from follows
from the keys of its builds. What a stage shows is its own to say (`About.report`). Shards are streamed. Nothing says
when or where the run was made, or what it was called, so that equal corpora give equal bytes.
"""
