"""The program of the child process (child.py): answers one request after the other until its input ends.

Libraries that parse strangers' files run here. Processor time is limited for each request, memory for the process,
and no file can be written. What a library prints goes nowhere: standard output carries the answers.
"""

import gc
import json
import logging
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from tasks.collect.pages.charset import Undecodable
from tasks.collect.pages.child import Broken, read_frame, write_frame
from tasks.collect.pages.epub import read_epub
from tasks.collect.pages.mail import read_eml
from tasks.collect.pages.main_text import read_page
from tasks.collect.pages.pdf import read_pdf
from tasks.collect.pages.word import read_docx
from tasks.collect.pages.xml_text import read_xml
from tasks.collect.wikitext import read_wikitext

Answer = dict[str, Any]
READERS: Mapping[str, Callable[[Mapping[str, Any], bytes], Answer | str]] = {  # by the ending of a file
    "html": read_page,
    "xhtml": read_page,
    "xml": read_xml,
    "eml": read_eml,
    "pdf": read_pdf,
    "epub": read_epub,
    "docx": read_docx,
    "wikitext": read_wikitext,
}


def main() -> None:
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nowhere, number)
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    gc.collect()
    gc.freeze()
    while True:
        try:
            request, body = json.loads(read_frame(requests)), read_frame(requests)
        except Broken:
            return
        write_frame(answers, json.dumps(_answer(request, body, seconds)).encode())
        os.dup2(nowhere, 2)  # the program runs: what libraries say from now on is nobody's
        del request, body
        gc.collect()


def _answer(request: Mapping[str, Any], body: bytes, seconds: float) -> Answer:
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), most))
    try:
        answer = READERS[request["read"]](request, body)
    except Undecodable as fault:
        return {"reason": str(fault)}
    except MemoryError:
        return {"reason": "it takes more memory than max_memory_bytes allows", "spoiled": True}
    except Exception as error:  # of any library, over a file that it does not understand
        return {"reason": f"its reader failed ({type(error).__name__})"}
    return {"reason": answer} if isinstance(answer, str) else answer


if __name__ == "__main__":
    main()
