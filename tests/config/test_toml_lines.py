"""Which line a key stands on: against tomllib, which tells what the keys are."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from replicad.config.toml_lines import key_lines

TEXT = '''# comment with [brackets] = "and signs"
top = 1

[member]   # why
name = "alpha" # name = "beta"
advertise = [
  "a:1", # ] not the end
  "b:2",
]
text = """
[api]
listen = "no key \\""" of this file"
"""""
literal = \'\'\'
x = 1\'\'\'
inline = { a = 1, b = [2] }
"quoted key" = 2
a.b.c = 3

[[folder]]
name = 'docs'
[folder.more]
deep = 1

[[folder]]
name = "media"

[api]
listen = "x"
'''


def test_every_key_has_the_line_on_which_it_begins() -> None:
    lines = key_lines(TEXT)
    rows = TEXT.split("\n")
    assert lines[("top",)] == 2
    assert lines[("member",)] == 4
    assert lines[("member", "name")] == 5
    assert lines[("member", "advertise")] == 6
    assert rows[lines[("member", "literal")] - 1].startswith("literal")
    assert rows[lines[("member", "inline")] - 1].startswith("inline")
    assert rows[lines[("member", "quoted key")] - 1].startswith('"quoted')
    assert rows[lines[("member", "a", "b", "c")] - 1].startswith("a.b.c")
    assert lines[("folder", 0, "name")] < lines[("folder", 0, "more", "deep")] < lines[("folder", 1, "name")]
    assert rows[lines[("api", "listen")] - 1] == 'listen = "x"'


def test_what_looks_like_a_key_within_a_value_is_none() -> None:
    tomllib.loads(TEXT)  # the text is TOML
    assert ("member", "listen") not in key_lines(TEXT)
    assert ("member", "x") not in key_lines(TEXT)


_key = st.text("abcXYZ09_-", min_size=1, max_size=6)
_value = st.one_of(
    st.integers(0, 99).map(str),
    st.sampled_from(['"a#b"', "'[x]'", '"q\\"uote"', '[1,\n 2, # c\n "]"]', '"""x\n[y]\nz = 1"""', "'''\n'''"]),
)


@given(st.dictionaries(_key, st.dictionaries(_key, _value, max_size=4), max_size=4))
def test_the_keys_found_are_those_of_tomllib(tables: dict[str, dict[str, str]]) -> None:
    text = ""
    expected: dict[tuple[str | int, ...], int] = {}
    for section, table in tables.items():
        expected[(section,)] = text.count("\n") + 1
        text += f"[{section}]  # [comment]\n"
        for key, value in table.items():
            expected[(section, key)] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    assert {section: set(table) for section, table in tomllib.loads(text).items()} == {
        section: set(table) for section, table in tables.items()
    }
    assert key_lines(text) == expected
