"""On-policy distillation."""


rule opd:
    """On-policy distillation with the paper's row of plug points."""
    input:
        unpack(parents("opd")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/opd/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/opd/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("opd", "cpus")
    resources:
        gpu=ask("opd", "gpu"),
        processes=processes("opd"),
        mem_mb=ask("opd", "mem_mb"),
        runtime=ask("opd", "runtime"),
    params:
        cfg=job_config("opd"),
        code=job_code("opd"),
    message:
        "opd: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm opd --processes {resources.processes} --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
