"""Text that was decoded wrongly at some time (Ã¤ for ä), put right by ftfy, which is sure of what it changes.

Only the encoding is repaired: quotes, ligatures, widths and line ends stay as the author has them.
"""


def repair_unicode(text: str) -> str:
    """The repaired text; the same where nothing was wrong."""
    from ftfy import TextFixerConfig, fix_text

    config = TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return fix_text(text, config)
