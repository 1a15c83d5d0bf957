"""Jobs that do nothing, with the project's profile and its watch over the queue: what one job costs."""

import os
import sys

sys.path.insert(0, os.getcwd())

from opd_steps.slurm.start import start


localrules:
    all,


onstart:
    if not workflow.local_exec:
        start(workflow)


rule all:
    input:
        expand("tiny/{i}", i=range(int(config["count"]))),


rule tiny:
    output:
        "tiny/{i}",
    resources:
        mem_mb=600,
        runtime=10,
    shell:
        "hostname > {output}"
