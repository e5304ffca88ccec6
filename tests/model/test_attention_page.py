"""The code of docs/attention.md runs as it stands, and its last block is the module that is trained."""

import re

from support import ROOT


def test_the_page_on_attention_runs_from_top_to_bottom() -> None:
    page = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    proven = (blocks[0], blocks[2], blocks[3], blocks[-2], blocks[-1])
    assert len(blocks) == 8 and all("assert" in block for block in proven)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/attention.md, block {number}", "exec"), names)
    assert {"by_hand", "module"} <= names.keys()
