"""jaxdistill COMMAND ...

    jaxdistill run CONFIG --workdir DIR [--config.KEY=VALUE ...]    train, distil, evaluate and report
    jaxdistill plan CONFIG [--devices=N] [--config.KEY=VALUE ...]   networks, shapes, FLOPs and memory, without training
    jaxdistill sweep CONFIG --workdir DIR --values KEY=V,V ...      a run for each value, with shared stages made once
    jaxdistill compare RUN RUN ... [--out FOLDER]                   configs, results, differences and curves of runs
    jaxdistill worth RUN RUN ... [--times 4]                        the loss of larger runs, predicted from small ones
    jaxdistill export --workdir RUN --network NAME --format FORMAT --out FOLDER
    jaxdistill prepare DATASET ... [--data-dir DIR]                 TFDS datasets, prepared once for all runs
    jaxdistill tokenizer FILE ... --size N --out FOLDER             byte-level BPE, trained on texts
    jaxdistill conformance NAME [FIELD=VALUE ...]                   the promises of a method, model, metric, ...
    jaxdistill configs                                              the names of the configs that come with the package
    jaxdistill completion bash|zsh                                  a script: source <(jaxdistill completion bash)

CONFIG is a file, FILE.py or FILE.py:MODE, or a config of the package, `digits/kd` or `digits/kd:smoke`.
`jaxdistill COMMAND --help` describes a command.
"""

import sys
from collections.abc import Callable, Sequence

from jaxdistill import configs, launch
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import failures, pipes

COMPLETION = """
_jaxdistill() {
  local words="--help"
  case "$COMP_CWORD ${COMP_WORDS[1]}" in
    "1 "*) words="COMMANDS" ;;
    "2 run" | "2 plan" | "2 sweep") words="CONFIGS" ;;
    *" run" | *" plan") words="--workdir --config. --profile --devices --stages --lane --from --distributed" ;;
    *" sweep") words="--workdir --values --grid --list --shared --only --config." ;;
    *" compare") words="--out" ;;
    *" worth") words="--student --control --metric --times --at --out" ;;
    *" export") words="--workdir --network --format --out --bits" ;;
    *" prepare") words="--data-dir" ;;
    *" tokenizer") words="--column --size --special --out" ;;
    *" conformance") words="--room" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _jaxdistill jaxdistill"""
"""A script for bash; of files, bash completes the names itself."""

LAUNCH_USAGE = "python -m jaxdistill.launch --config FILE.py[:MODE]"

COMMANDS = (
    "run",
    "plan",
    "sweep",
    "compare",
    "worth",
    "export",
    "prepare",
    "tokenizer",
    "conformance",
    "configs",
    "completion",
)


def main(words: Sequence[str]) -> int:
    """Runs a command other than `run` and `plan`; returns the exit status."""
    command, rest = words[0], list(words[1:])
    try:
        return _find(command)(rest)
    except Exception as error:
        failure = failures.describe(error, failures.REPEAT)
        if failure is None:
            raise
        print(f"error: {failure}", file=sys.stderr)
        return 2


def _find(command: str) -> Callable[[list[str]], int]:
    """Returns the function of a command, whose modules are imported when it is used."""
    if command == "sweep":
        from jaxdistill.sweep import main
    elif command == "compare":
        from jaxdistill.compare.command import main
    elif command == "worth":
        from jaxdistill.scaling.command import main
    elif command == "export":
        from jaxdistill.pipeline.export import main
    elif command == "prepare":
        from jaxdistill.data.prepare import main
    elif command == "tokenizer":
        from jaxdistill.data.train_tokenizer import main
    elif command == "conformance":
        from jaxdistill.conformance.command import main
    elif command == "configs":
        return _list_configs
    elif command == "completion":
        return _complete
    else:
        raise unknown("COMMAND", command, COMMANDS, "a command of jaxdistill")
    return main


def _list_configs(words: list[str]) -> int:
    if words:
        raise UserError(f"jaxdistill configs must have no argument, got {words[0]!r}. Leave it out")
    print("\n".join(configs.list_names()))
    return 0


def _complete(words: list[str]) -> int:
    shell = words[0] if len(words) == 1 else ""
    if shell not in ("bash", "zsh"):
        raise UserError(f"jaxdistill completion must have one argument, bash or zsh, got {words}. Name the shell")
    script = COMPLETION.replace("COMMANDS", " ".join(COMMANDS)).replace("CONFIGS", " ".join(configs.list_names()))
    print("autoload -U +X bashcompinit && bashcompinit" * (shell == "zsh") + script)
    return 0


def launch_words(command: str, words: Sequence[str]) -> list[str]:
    """Returns the command line of `jaxdistill.launch` for `run` and `plan`: the first bare word is the config."""
    flags = ["--plan"] if command == "plan" else []
    number = 0
    while number < len(words):
        word = words[number]
        if not word.startswith("-"):
            return [*words[:number], f"--config={word}", *words[number + 1 :], *flags]
        takes_next = word in launch.VALUED or (word.startswith("--config.") and "=" not in word)
        number += 2 if takes_next else 1
    return [*words, *flags]


def run() -> None:
    """Ends the process with the status of the command of `sys.argv`."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: modules of a user's project are in the current folder
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        sys.exit(0 if words else 2)
    if words[0] in ("run", "plan"):
        if not words[1:] or {"-h", "--help"} & {*words}:
            print((launch.__doc__ or "").replace(LAUNCH_USAGE, f"jaxdistill {words[0]} CONFIG[:MODE]"))
            sys.exit(0 if words[1:] else 2)
        launch.run(["jaxdistill", *launch_words(words[0], words[1:])])
    sys.exit(pipes.ending_at_closed_pipe(lambda: main(words)))
