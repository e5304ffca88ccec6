"""Take the pictures of the report that the documents show: `python docs/screenshots.py REPORT.html`.

Needs a chromium in PATH. Writes report.png, report-phone.png and report-dark.png beside this file; `--all FOLDER`
writes the whole page at every width, and as it prints, into a folder instead.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from browser import browser_page  # noqa: E402

PICTURES = (("report", 1100, False, 1500), ("report-phone", 360, False, 1500), ("report-dark", 1100, True, 1500))


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description="Pictures of a report.")
    parser.add_argument("report", type=Path, help="runs/RUN.html of a home")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="whole pages and the print, for looking at")
    options = parser.parse_args()
    folder = options.all or HERE
    folder.mkdir(parents=True, exist_ok=True)
    with browser_page() as page:
        for name, width, dark, height in PICTURES:
            page.open(options.report.resolve(), width=width, dark=dark)
            page.screenshot(folder / f"{name}.png", None if options.all else height)
        if options.all:
            page.open(options.report.resolve(), width=1100)
            page.print_pdf(folder / "report.pdf")


if __name__ == "__main__":
    main()
