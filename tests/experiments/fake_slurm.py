"""As much of SLURM as submitit calls, on this machine: sbatch, srun, sacct, scancel, scontrol.

What is known of the job 7 and its element 7_0 lies in the folder FAKE_SLURM: 7.sh (as submitted),
7_0.state, 7_0.tasks (numbers of its processes) and, as long as they are asked for, 7_0.requeue
and 7_0.cancel.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(folder):
    """Make the commands; returns the environment in which they are found."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in COMMANDS:
        program = programs / name
        call = shlex.join([sys.executable, __file__, name])
        program.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        program.chmod(0o755)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def known(name, kind):
    return Path(os.environ["FAKE_SLURM"]) / f"{name}.{kind}"


def options(text):
    """What a batch file asks for."""
    return dict(
        shlex.split(line.removeprefix("#SBATCH --"))[0].split("=", 1)
        for line in text.splitlines()
        if line.startswith("#SBATCH --")
    )


def sbatch(path):
    job = str(os.getpid())
    known(job, "sh").write_text(Path(path).read_text())
    null = subprocess.DEVNULL
    subprocess.Popen(
        [sys.executable, __file__, "run_array", job],
        start_new_session=True,
        stdin=null,
        stdout=null,
        stderr=null,
    )
    print(f"Submitted batch job {job}")


def run_array(job):
    """What SLURM itself does: the elements of an array, so many at a time."""
    array = options(known(job, "sh").read_text()).get("array")
    if array is None:
        run_element(job, {"SLURM_JOB_ID": job})
        return
    last, parallel = re.fullmatch(r"0-(\d+)%(\d+)", array).groups()
    with ThreadPoolExecutor(int(parallel)) as pool:
        for index in range(int(last) + 1):
            identity = {"SLURM_JOB_ID": f"{job}{index}", "SLURM_ARRAY_JOB_ID": job}
            identity["SLURM_ARRAY_TASK_ID"] = str(index)
            known(f"{job}_{index}", "state").write_text("PENDING")
            pool.submit(run_element, f"{job}_{index}", identity)


def run_element(name, identity):
    script = known(name.split("_")[0], "sh")
    asked = options(script.read_text())
    nodes, per_node = int(asked["nodes"]), int(asked["ntasks-per-node"])
    shape = {"SLURM_JOB_NUM_NODES": nodes, "SLURM_NTASKS": nodes * per_node}
    environment = os.environ | identity | {key: str(value) for key, value in shape.items()}
    environment["SLURM_JOB_NODELIST"] = "localhost"
    code = None
    while not known(name, "cancel").exists() and (code is None or known(name, "requeue").exists()):
        known(name, "requeue").unlink(missing_ok=True)
        known(name, "state").write_text("RUNNING")
        code = subprocess.run(["bash", str(script)], env=environment).returncode
    cancelled = known(name, "cancel").exists()
    state = "CANCELLED" if cancelled else "FAILED" if code else "COMPLETED"
    known(name, "state").write_text(state)


def srun(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--unbuffered", action="store_true")
    parser.add_argument("--cpus-per-task")
    parser.add_argument("--output")
    parser.add_argument("--error")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    total = int(os.environ["SLURM_NTASKS"])
    per_node = total // int(os.environ["SLURM_JOB_NUM_NODES"])
    tasks = []
    for rank in range(total):
        place = {"PROCID": rank, "LOCALID": rank % per_node, "NODEID": rank // per_node}
        environment = os.environ | {f"SLURM_{key}": str(value) for key, value in place.items()}
        with log(asked.output, rank).open("a") as output, log(asked.error, rank).open("a") as error:
            tasks.append(
                subprocess.Popen(asked.command, env=environment, stdout=output, stderr=error)
            )
    known(element(), "tasks").write_text(" ".join(str(task.pid) for task in tasks))
    codes = [task.wait() for task in tasks]
    sys.exit(int(any(codes)))


def element():
    """The name of the job in which srun runs."""
    if "SLURM_ARRAY_JOB_ID" not in os.environ:
        return os.environ["SLURM_JOB_ID"]
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def log(pattern, rank):
    array, _, index = element().partition("_")
    values = {"%A": array, "%a": index, "%j": element(), "%t": rank}
    return Path(re.sub("%[Aajt]", lambda found: str(values[found[0]]), pattern))


def sacct(*arguments):
    print("JobID|State|NodeList")
    jobs = {job for flag, job in pairwise(arguments) if flag == "-j"}
    for path in Path(os.environ["FAKE_SLURM"]).glob("*.state"):
        if path.stem.split("_")[0] in jobs:
            print(f"{path.stem}|{path.read_text()}|localhost")


def scancel(name, _flag=None, signal_name=None):
    if signal_name is None:
        known(name, "cancel").touch()
    number = getattr(signal, f"SIG{signal_name or 'KILL'}")
    tasks = known(name, "tasks")
    for task in tasks.read_text().split() if tasks.exists() else ():
        with suppress(ProcessLookupError):
            os.kill(int(task), number)


def scontrol(_requeue, name):
    known(name, "requeue").touch()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
