"""Why a page has no text, where that is no fault: sources count such pages as dropped, not as bad."""

NO_TEXT = "no main text"
NOT_HTML = "not HTML"  # at the beginning of a sentence
EMPTY = "empty page"
NOTHING = "no text"  # of a file that is no page
WITHOUT_TEXT = (NO_TEXT, EMPTY, NOTHING)
