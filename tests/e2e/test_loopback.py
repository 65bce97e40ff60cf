"""No connection leaves this machine: in the command, in library use, in a notebook's event loop, with proxies set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import prefect_server
from tests.flows.workplace import Workplace, make_workplace

#: in every process of Python that is started, the server's too
GUARD = """
import ipaddress, os, sys

def _is_here(host):
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", "", None)

def _watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        hosts = [address[0]] if isinstance(address, tuple) and address else []
    elif event == "socket.getaddrinfo" or event in ("socket.gethostbyname", "socket.gethostbyaddr"):
        hosts = [arguments[0]]
    else:
        return
    for host in hosts:
        host = host.decode() if isinstance(host, bytes) else host
        if host is not None and not _is_here(str(host)):
            with open(os.environ["KODA_GUARD"], "a") as file:
                file.write(f"{event} {host} {sys.argv}\\n")
            raise OSError(101, "Network is unreachable")

sys.addaudithook(_watch)
"""
COMMAND = "from flows.cli import main; main()"
LIBRARY = """
import sys
from pathlib import Path
from flows.audit import audit
from koda.config import load_config
print(audit(load_config(sys.argv[1]).settings(), sys.argv[2])["verdict"])
"""
NOTEBOOK = """
import asyncio, sys
from flows.audit import audit
from koda.config import load_config

async def cell():
    return audit(load_config(sys.argv[1]).settings(), sys.argv[2])["verdict"]

print(asyncio.run(cell()))
"""
PROXIES = dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY"), "http://192.0.2.7:3128")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = make_workplace(tmp_path_factory.mktemp("loopback"))
    prefect_server.furnish(place.home)
    (place.folder / "guard").mkdir()
    (place.folder / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    return place


def run(place: Workplace, code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    tree = str(Path(__file__).resolve().parents[2])
    environment = {
        **prefect_server.without(),
        "PYTHONPATH": f"{place.folder / 'guard'}:{tree}",
        "KODA_HOME": str(place.home),
        "KODA_GUARD": str(place.folder / "violations"),
        "HOME": str(place.folder),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )


def violations(place: Workplace) -> str:
    path = place.folder / "violations"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_the_guard_sees_a_connection(place: Workplace) -> None:
    done = run(place, "import socket; socket.create_connection(('192.0.2.1', 80), 1)")
    assert done.returncode == 1 and "192.0.2.1" in violations(place)
    (place.folder / "violations").unlink()


def test_the_command_stays_on_this_machine(place: Workplace) -> None:
    done = run(place, COMMAND, "audit", str(place.config), "--json", **PROXIES)
    assert done.returncode in (0, 1), done.stderr
    assert violations(place) == ""


@pytest.mark.parametrize(
    ("code", "proxies"), [(LIBRARY, {}), (NOTEBOOK, PROXIES)], ids=["a script", "a notebook's event loop, proxies"]
)
def test_library_use_stays_on_this_machine(place: Workplace, code: str, proxies: dict[str, str]) -> None:
    done = run(place, code, str(place.config), str(place.home), **proxies)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("pass", "warn", "fail", "inconclusive")
    assert violations(place) == ""
