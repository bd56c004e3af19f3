"""python load_skypilot.py FILE: prints what SkyPilot itself makes of a task, as JSON. Run in the environment of skypilot.txt."""

import json
import sys

from sky.task import Task

task = Task.from_yaml(sys.argv[1])
(resources,) = task.resources
mounts = {path: (store.name, store.mode.value) for path, store in task.storage_mounts.items()}
told = {
    "nodes": task.num_nodes, "accelerators": resources.accelerators, "spot": resources.use_spot, "recovery": resources.job_recovery,
    "envs": task.envs, "run": task.run, "buckets": mounts, "files": task.file_mounts,
}  # fmt: skip
print(json.dumps(told))
