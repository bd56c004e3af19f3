"""python ray_cluster.py COMMAND ...: runs a command beside a two-node Ray cluster on this machine; ends with its exit code."""

import os
import subprocess
import sys

from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
cluster.add_node(**node)
try:
    code = subprocess.run(sys.argv[1:], env=os.environ | {"RAY_ADDRESS": cluster.address}, check=False).returncode
finally:
    cluster.shutdown()
sys.exit(code)
