"""What is wrong with malformed JSON, and what to do, in words: the parser's own are not sentences."""

import json

_WORDS = {  # the parser's message -> ours
    "Expecting value": "a value is missing: write one, or null",
    "Expecting property name enclosed in double quotes": 'a name in double quotes is missing, or the closing "}"',
    "Illegal trailing comma before end of object": "there is a comma before the end: remove it",
    "Illegal trailing comma before end of array": "there is a comma before the end: remove it",
    "Expecting ':' delimiter": "a colon is missing behind the name",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Extra data": "there is more after the end of the value: give each value a line of its own",
    "Unterminated string starting at": 'the text that begins here has no end: close it with "',
    "Invalid \\escape": "a backslash begins no escape: write it as \\\\",
    "Invalid \\uXXXX escape": "\\u is not followed by four hexadecimal digits: write them, or the backslash as \\\\",
}


def json_fault(error: json.JSONDecodeError) -> str:
    """The fault as the end of a sentence that has named the place: `a colon is missing behind the name`."""
    if error.msg.startswith("Invalid control character"):
        letter = error.doc[error.pos]
        if letter in "\r\n":
            return "the line ends within a text: close the text, or write a line break in it as \\n"
        return f"a control character (U+{ord(letter):04X}) is inside a text: write it as \\u{ord(letter):04x}"
    return _WORDS.get(error.msg.partition(": ")[0], error.msg)
