"""Data sets. Made where Snakemake runs: on a cluster the head node has the network, and the work is small."""


localrules:
    data,


rule data:
    """Prompts with verifiable answers, in train, test and out-of-distribution splits."""
    input:
        unpack(parents("data")),
    output:
        manifest=update("<results>/{paper}/data/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/data/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("data", "cpus")
    resources:
        gpu=ask("data", "gpu"),
        mem_mb=ask("data", "mem_mb"),
        runtime=ask("data", "runtime"),
    params:
        cfg=job_config("data"),
        code=job_code("data"),
    message:
        "data: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm data --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
