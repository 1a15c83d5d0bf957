"""Analyses."""


rule analyze:
    """A measurement on finished models; it changes none of them."""
    input:
        unpack(parents("analyze")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/analyze/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/analyze/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("analyze", "cpus")
    resources:
        gpu=ask("analyze", "gpu"),
        mem_mb=ask("analyze", "mem_mb"),
        runtime=ask("analyze", "runtime"),
    params:
        cfg=job_config("analyze"),
        code=job_code("analyze"),
    message:
        "analyze: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm analyze --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
