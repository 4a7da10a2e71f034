"""Arguments of a command."""

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime.arguments import Arguments, with_help, writing


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


def test_help_is_printed_in_place_of_the_command(capsys):
    @with_help("the help")
    def main(words):
        print(*words)
        return 3

    assert [main(words) for words in (["a"], ["a", "-h"], ["--help"], [])] == [3, 0, 0, 2]
    assert capsys.readouterr().out.split("\n") == ["a", "the help", "the help", "the help", ""]


def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/below must be a file or folder that can be"), writing("--out", "x"):
        (tmp_path / "file" / "below").mkdir()
    with pytest.raises(UserError, match=r"--out must be a folder to write to, got 'x' \(odd\)"), writing("--out", "x"):
        raise OSError("odd")
