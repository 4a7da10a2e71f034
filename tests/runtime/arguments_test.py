"""Arguments of a command."""

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime.arguments import Arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "abc"], "argument --size: invalid int value: 'abc'. See jaxdistill it --help"),
        (["--siz", "3"], "unrecognized arguments: --siz 3. See jaxdistill it --help"),
    ],
)
def test_a_mistake_is_one_message(words, message, capsys):
    arguments = Arguments("jaxdistill it")
    arguments.add_argument("--size", type=int)
    with pytest.raises(UserError) as caught:
        arguments.parse_args(words)
    assert str(caught.value) == message
    assert capsys.readouterr() == ("", "")
