"""The command `lenet`: finds the command, and turns errors into one line and an exit status."""

import importlib
import io
import os
import sys

from lenet import __version__
from lenet.errors import LenetError

# Modules of lenet.commands.
COMMANDS = (
    *("train", "sweep", "evaluate", "predict", "read", "serve"),
    *("models", "show", "export", "summary", "data"),
)

HELP = f"""\
lenet {__version__} - LeNet: train it, look inside it, read digits with it.

usage: lenet COMMAND [arguments]     `lenet COMMAND --help` explains a command

  train [RECIPE]      train a network: mnist, mnist-best, mnist-99, d2l, lenet5-1998 ...
  sweep [RECIPE]      train it with many settings, on many machines, and find the best
  evaluate MODEL      measure a trained network on a test set
  predict IMAGE...    read one digit a picture: files, folders, or - for standard input
  read IMAGE...       read numbers: amounts, codes, cells, fields, with boxes and confidences
  serve [MODEL...]    a web page that shows every layer at work, and a REST interface
  models              list the trained networks that come with the package
  summary MODEL       list the layers, their shapes and their costs
  show MODEL [IMAGE]  draw its kernels, feature maps, architecture, saliency, F6
  export MODEL        write it as ONNX, safetensors or C for small devices
  data [NAME]         get a data set and show its contents

MODEL is a run folder, a weights file, a network that comes with the package, or latest.
First steps: `lenet predict photo.jpg`, `lenet evaluate mnist`; then train your own: `lenet train`.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 if some pictures failed, 2 for an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may be unable to encode a file name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            print(end="", flush=True)  # here, where an error can still be handled
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        leave_output()
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has seen enough
            return 0
        print(f"lenet: {error}", file=sys.stderr)
        return 2


def leave_output() -> None:
    """Discards the rest of standard output if it fails, so that the process ends quietly."""
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
