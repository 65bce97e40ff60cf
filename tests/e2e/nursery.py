"""A process that has imported what koda needs, and forks one that runs the command whenever it is asked to.

Each run is a process of its own, to be signalled and killed; only its imports are done already. Asked with a line of
JSON on stdin, {"arguments": [...], "home": ..., "answer": ..., "log": ...}, it answers
with the process's id, and when that has ended, with its exit code, negative for the signal that killed it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

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
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # nothing is to be kept, and what was imported takes its seconds to take leave


class Nursery:
    """The process, for those who ask it.

    Args:
        folder: for what its runs say.
        environment: of its runs; Prefect's home is settled when it is imported, by KODA_HOME.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        import subprocess

        self._answer_file, self._log = folder / "stdout", folder / "stderr"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.nursery"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self._answer() == "ready"

    def run(self, home: Path, *arguments: str) -> int:
        """Run the command in a home, and return its exit code."""
        self.start(home, *arguments)
        return self.wait()

    def start(self, home: Path, *arguments: str) -> int:
        """Start the command in a home; return the id of its process, for which :meth:`wait` waits."""
        assert self._process.stdin is not None
        asked = {"arguments": arguments, "home": str(home), "answer": str(self._answer_file), "log": str(self._log)}
        self._log.unlink(missing_ok=True)
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return int(self._answer())

    def kill(self, process: int) -> None:
        """Send it a SIGKILL, unless it has ended before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the command, and return its exit code."""
        return int(self._answer())

    @property
    def said(self) -> str:
        """What the last run told people."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def answer(self) -> str:
        """What the last run printed on stdout."""
        return self._answer_file.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


if __name__ == "__main__":
    _serve()
