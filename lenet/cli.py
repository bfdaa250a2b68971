"""The command `lenet`: finds the command, and turns errors into one line and an exit status."""

import importlib
import io
import os
import sys

from lenet import __version__
from lenet.errors import LenetError

# Modules of lenet.commands.
COMMANDS = (
    "train",
    "sweep",
    "evaluate",
    "predict",
    "serve",
    "models",
    "show",
    "export",
    "summary",
    "data",
    "bench",
)

HELP = f"""\
lenet {__version__} - LeNet: train it, look inside it, read digits with it.

usage: lenet COMMAND [arguments]     `lenet COMMAND --help` explains one of them

  train [RECIPE]      train a network: mnist, mnist-best, mnist-99, d2l, lenet5-1998 ...
  sweep [RECIPE]      train it many times with other values, find the best, on many machines
  evaluate MODEL      measure a trained network on a test set
  predict IMAGE...    read pictures: files, folders, or - for standard input
  serve [MODEL...]    a page that shows every layer at work, and REST for programs
  models              the trained networks that come with the package
  summary MODEL       what every layer is and costs
  show MODEL [IMAGE]  draw its kernels, feature maps, architecture, saliency, F6
  export MODEL        write it as ONNX, safetensors or C for small devices
  data [NAME]         get a data set and show what is in it
  bench WHAT          speed beside others', in one run: train, infer, lenet5, recipes, scaling

MODEL is a run folder, a weights file, a network that comes with the package, or latest.
First steps: `lenet predict photo.jpg`, `lenet evaluate mnist`; then `lenet train` one yourself.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 if some pictures failed, 2 for an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what it cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            print(end="", flush=True)  # here, where what goes wrong can still be answered
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        leave_output()
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has seen enough
            return 0
        print(f"lenet: {error}", file=sys.stderr)
        return 2


def leave_output() -> None:
    """If standard output fails, sends the rest of it nowhere: the process then ends quietly."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"lenet {__version__}")
        return 0
    command, *flags = arguments
    if command not in COMMANDS:
        print(f"lenet: no command {command!r}\n\n{HELP}", end="", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(f"lenet.commands.{command}").run(flags)
    except LenetError as error:
        rank = os.environ.get("RANK")  # set by torchrun
        process = f" (process {rank})" if rank else ""
        print(f"lenet {command}{process}: {error}", file=sys.stderr)
        return 2
