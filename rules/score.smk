"""Teacher scores as files."""


rule score:
    """A teacher's log-probabilities of a rollouts table."""
    input:
        unpack(parents("score")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/score/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/score/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("score", "cpus")
    resources:
        gpu=ask("score", "gpu"),
        mem_mb=ask("score", "mem_mb"),
        runtime=ask("score", "runtime"),
    params:
        cfg=job_config("score"),
        code=job_code("score"),
    message:
        "score: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm score --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
