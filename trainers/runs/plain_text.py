"""Text as it may be shown: what comes from files of runs, which may come from elsewhere, steers no terminal."""


def printable(text: str) -> str:
    """The text in one line, with a sign in place of each character that is none to be seen."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def printable_lines(text: str) -> str:
    """`printable`, but the lines of the text stay lines."""
    return "\n".join(map(printable, text.split("\n")))
