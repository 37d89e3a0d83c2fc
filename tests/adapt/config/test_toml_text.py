import tomllib

import pytest
from cia_adapt.config import library
from cia_adapt.config.toml_text import toml_text
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), SCALARS, max_size=3)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=5), st.text(st.characters(codec="utf-8")))
def test_what_is_written_is_read_again(values, remark):
    assert tomllib.loads(toml_text(values, remark)) == values


@pytest.mark.parametrize("kind", ["methods", "setups"])
def test_the_files_of_the_package_survive(kind):
    for name in library.names(kind):
        values = library.read(kind, name)
        assert tomllib.loads(toml_text(values, name)) == values
