"""A throw-away Slurm on this machine: one controller, one node, no accounting, no systemd, nothing under /etc.

Needs the programs of Debian's `slurmctld slurmd slurm-client munge`; `missing()` says which are not there. Reads
nothing but the host's name; writes its own folder. As root or not: every daemon runs as whoever starts it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "munge", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODE = "node0"
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# The node's size is made up (config_overrides). No cgroups: the processes of a job are found by their parents. KillWait
# is how many seconds after SIGTERM a cancelled job is killed.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}({address})
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1,bf_max_job_test=3000,default_queue_depth=3000
AccountingStorageType=accounting_storage/none
ReturnToService=2
MaxJobCount=20000
MinJobAge=3600
KillWait=5
SlurmdTimeout=20
DefMemPerCPU=100
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr={address} Port={node_port} CPUs=8 RealMemory=16000 Gres=gpu:{gpus}
PartitionName=main Nodes={node} Default=YES DefaultTime=10 MaxTime=1-00:00:00 State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, in words; None if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)}): apt-get install slurmctld slurmd slurm-client munge"
    try:
        address = socket.gethostbyname(_host())
    except OSError as error:
        return f"the name of this machine, {_host()}, has no address ({error}); add it to /etc/hosts"
    return None if address.startswith("127.") else f"{_host()} is {address}, not a loopback address, in /etc/hosts"


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(done: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to become true. TimeoutError naming it otherwise."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


class Cluster:
    """A running Slurm; a context manager. `env` is what its users need in their environment."""

    def __init__(self, gpus: int = 2) -> None:
        # Not under pytest's folder, whose long name does not fit into the address of a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-tests-"))
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        (self.folder / "bin").mkdir()
        host = _host()
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        facts = {"host": host, "address": socket.gethostbyname(host), "user": _user(), "node": NODE, "gpus": gpus}
        config = self.folder / "slurm.conf"
        config.write_text(CONFIG.format(folder=self.folder, **facts, **ports))
        # Devices that exist and are no GPUs, which is all that Slurm wants to know.
        for i in range(gpus):
            (self.folder / f"gpu{i}").symlink_to("/dev/null")
        files = (f"NodeName={NODE} Name=gpu File={self.folder}/gpu{i}\n" for i in range(gpus))
        (self.folder / "gres.conf").write_text("".join(files))
        # Snakemake's job step forgets SLURM_CONF before it calls srun. Clusters have theirs in /etc; this one does not.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nexport SLURM_CONF={config}\nexec {shutil.which("srun", path=SEARCH)} "$@"\n')
        srun.chmod(0o755)
        self.env = os.environ | {"SLURM_CONF": str(config), "PATH": f"{self.folder}/bin{os.pathsep}{SEARCH}"}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            key = self.folder / "munge.key"
            key.write_bytes(secrets.token_bytes(128))
            key.chmod(0o400)
            self.folder.chmod(0o755)
            files = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
            paths = [f"--{name}={self.folder / file}" for name, file in files.items()]
            self._launch("munged", "--foreground", f"--key-file={key}", *paths)
            until((self.folder / "munge.socket").exists, 10, "munged")
            self._launch("slurmctld", "-D", "-i")
            until(lambda: self.ask("scontrol", "ping", check=False).find("is UP") > 0, 20, "slurmctld")
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if "slurmctld" in self._daemons:
            self.ask("scancel", f"--user={_user()}", check=False)
            # While jobs still end, the node's daemon must not go: nobody else would end them.
            with suppress(TimeoutError):
                until(lambda: not self.ask("squeue", "-h", "-t", "PD,R,CG", check=False), 20, "the last jobs to end")
        for name in reversed(list(self._daemons)):
            self._stop(name, signal.SIGTERM)
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def left(self) -> list[int]:
        """Processes that have this cluster in their environment: its daemons, its users, its jobs.

        Of a job whose node was given up its Snakemake may still be there: told to end (SIGTERM) while it waits for
        files, version 9.27 waits for ever, in `exit_gracefully`, for a lock that it holds itself. On a real cluster
        SIGKILL follows; here Slurm tells processes by their parents, and no longer knows this one.
        """
        mark, found = os.fsencode(self.folder), []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def start_node(self) -> None:
        """Start the node's daemon and wait until the controller sees it idle or at work."""
        self._launch("slurmd", "-D", "-N", NODE)
        up = ("idle", "mixed", "allocated", "completing")
        until(lambda: self.ask("sinfo", "-h", "-o", "%T", check=False).strip() in up, 30, "the node")

    def stop_node(self) -> None:
        """Kill the node's daemon, as when a machine goes; its jobs' processes are somebody else's."""
        self._stop("slurmd", signal.SIGKILL)

    def ask(self, *command: str, check: bool = True) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def jobs(self, states: str = "all") -> list[dict[str, str]]:
        """Slurm's jobs, finished ones included: id, state, GPUs, time limit, comment (rule and wildcards), folder."""
        fields = {"id": ("JobID", 12), "state": ("State", 20), "gpus": ("tres-per-job", 30), "limit": ("TimeLimit", 20)}
        fields |= {"comment": ("Comment", 200), "folder": ("WorkDir", 300)}
        form = ",".join(f"{name}:{width}" for name, width in fields.values())
        found = []
        for line in self.ask("squeue", "-h", "-t", states, "-O", form).splitlines():
            job = {}
            for name, (_, width) in fields.items():
                job[name], line = line[:width].strip(), line[width:]
            found.append(job)
        return found

    def _launch(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=SEARCH)
        with open(self.folder / f"{name}.out", "ab") as out:
            command = [str(program), *arguments]
            self._daemons[name] = subprocess.Popen(
                command, env=self.env, stdout=out, stderr=out, start_new_session=True, preexec_fn=_die_with_parent
            )

    def _stop(self, name: str, number: int) -> None:
        process = self._daemons.pop(name)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """No daemon outlives tests that were killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
