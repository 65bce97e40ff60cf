"""A process that has imported what koda needs, and forks one that runs the command whenever it is asked to.

Each run is a process of its own, to be signalled and killed; only its imports are done already. Asked with a line of
JSON on stdin, {"arguments": [...], "home": ..., "answer": ..., "log": ...}, it answers with the process's id; asked
with {"wait": id}, when that has ended, with its exit code, negative for the signal that killed it.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

#: what a command imports when it comes to it
_MODULES = (
    "open_clip", "pandas", "prefect.task_engine", "prefect.utilities.visualization", "sklearn.cluster",
    "PIL.JpegImagePlugin", "PIL.PngImagePlugin",
    "flows.align", "flows.audit", "flows.cli.app", "flows.prefect_artifacts", "flows.watch", "koda.audit.comparison",
    "koda.audit.controls", "koda.audit.evaluation", "koda.audit.recording", "koda.audit.rerun", "koda.audit.solutions",
    "koda.report", "koda.storage.database",
)  # fmt: skip


def _import_all() -> None:
    for name in _MODULES:
        importlib.import_module(name)
    import torch

    from koda.config.models import ModelSpec
    from koda.models import load_encoder, resolve_model
    from koda.report.environment import environment, template_folder
    from tests.tiny import write_tiny_model

    torch.set_num_threads(1)
    # what is read and kept once a process: the tokenizer's vocabulary, the compiled templates
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder, "tiny"), 0)
        load_encoder(resolve_model(ModelSpec(name=f"local-dir:{model}", precision="fp32"), "cpu"), "cpu")
    templates = environment(template_folder())
    for name in templates.list_templates(extensions=("j2",)):
        templates.get_template(name)


def _run(asked: dict[str, Any]) -> None:
    for descriptor, path in ((1, asked["answer"]), (2, asked["log"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.environ["KODA_HOME"] = asked["home"]
    sys.argv = ["koda", *asked["arguments"]]
    from flows.cli import main

    main()


def _serve() -> None:
    _import_all()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = 0
            try:
                _run(asked)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)
    os._exit(0)  # nothing is to be kept, and what was imported takes its seconds to take leave


@dataclass
class Run:
    """A command that was started.

    Args:
        pid: of its process.
        files: what it prints on stdout, and what it tells people.
        ask: asks the process that started it.
    """

    pid: int
    files: tuple[Path, Path]
    ask: Callable[[dict[str, Any]], str]

    def kill(self) -> None:
        """Send it a SIGKILL, unless it has ended before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, once, and return its exit code."""
        return int(self.ask({"wait": self.pid}))

    @property
    def ended(self) -> bool:
        """Whether it has ended; who has not waited for it yet still can."""
        return bool(psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE)

    @property
    def answer(self) -> str:
        """What it printed on stdout."""
        return self.files[0].read_text(encoding="utf-8") if self.files[0].exists() else ""

    @property
    def said(self) -> str:
        """What it told people."""
        return self.files[1].read_text(encoding="utf-8") if self.files[1].exists() else ""


class Nursery:
    """The process, for those who ask it.

    Args:
        folder: for what its runs say.
        environment: of its runs; Prefect's home is settled when it is imported, by KODA_HOME.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.nursery"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.last: Run
        assert self._answer() == "ready"

    def run(self, home: Path, *arguments: str) -> int:
        """Run the command in a home, and return its exit code; :attr:`last` has what it said."""
        return self.start(home, *arguments).wait()

    def start(self, home: Path, *arguments: str) -> Run:
        """Start the command in a home; others may go on."""
        number = next(self._numbers)
        files = self._folder / f"stdout-{number}", self._folder / f"stderr-{number}"
        asked = {"arguments": arguments, "home": str(home), "answer": str(files[0]), "log": str(files[1])}
        self.last = Run(int(self._ask(asked)), files, self._ask)
        return self.last

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _ask(self, asked: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


if __name__ == "__main__":
    _serve()
