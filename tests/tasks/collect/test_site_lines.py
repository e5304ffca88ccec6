"""Lines that repeat across a site: which are removed, and that a page's own text never is."""

from tasks.collect.pages.site_lines import SiteLines


def cleaned(*pages: tuple[str, str]) -> list[str]:
    lines = SiteLines()
    for host, text in pages:
        lines.add(host, text)
    return [lines.without(host, text)[0] for host, text in pages]


def site(count: int, frame: str, host: str = "a.example", own: int = 1) -> list[tuple[str, str]]:
    return [
        (host, "\n".join([f"Own text {number} {line}." for line in range(own)] + [frame])) for number in range(count)
    ]


def test_a_line_on_three_pages_of_a_host_goes_and_on_two_it_stays() -> None:
    assert cleaned(*site(3, "We use cookies.")) == ["Own text 0 0.", "Own text 1 0.", "Own text 2 0."]
    assert cleaned(*site(2, "We use cookies.")) == ["Own text 0 0.\nWe use cookies.", "Own text 1 0.\nWe use cookies."]


def test_a_line_must_stand_on_more_than_30_percent_of_the_pages() -> None:
    others = [("a.example", f"Another text {number}.") for number in range(7)]
    assert cleaned(*site(3, "Menu"), *others)[0] == "Own text 0 0.\nMenu", "3 of 10"
    assert cleaned(*site(3, "Menu"), *others[1:])[0] == "Own text 0 0.", "3 of 9"


def test_hosts_are_counted_apart() -> None:
    pages = [page for host in ("a.example", "b.example", "c.example") for page in site(2, "Menu", host)]
    assert all(text.endswith("Menu") for text in cleaned(*pages))


def test_equal_pages_count_once() -> None:
    assert cleaned(*[("a.example", "The same page.\nTwice.")] * 5) == ["The same page.\nTwice."] * 5


def test_white_space_does_not_hide_a_line() -> None:
    pages = [("a.example", f"Own {number}.\n{' ' * number}Home  |\tNews") for number in range(3)]
    assert cleaned(*pages) == ["Own 0.", "Own 1.", "Own 2."]


def test_code_tables_and_headings_with_text_stay() -> None:
    frame = "## Example\n\n```\nimport x\n```\n\n| a |\n|---|\n| 1 |"
    assert all(text.endswith(frame) for text in cleaned(*site(4, frame)))


def test_a_heading_that_nothing_is_left_of_goes_with_its_lines() -> None:
    assert cleaned(*site(3, "## Related\n\n* One\n* Two")) == ["Own text 0 0.", "Own text 1 0.", "Own text 2 0."]


def test_pages_without_lines_of_their_site_are_not_touched() -> None:
    odd = ("a.example", "# Alone\n\n\n\n# Headings\n")
    assert cleaned(odd, *site(3, "Menu"))[0] == odd[1]
