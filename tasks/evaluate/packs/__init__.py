"""Task files for lm-eval that ship with llmill; the recipe says where the data are (`name` and `data`).

Prompts and rules are those of lm-eval's own task of the same name, so figures compare; the fields are those of the
files that circulate: BLiMP's and CrowS-Pairs' own, Winogender's `all_sentences.tsv`, and for the others the jsonl
form of llm-foundry (`query`, `choices`, `gold`; `context`, `continuation`; `context_options`, `continuation`, `gold`).
"""
