"""Benchmarks."""


rule evaluate:
    """lm-eval and own-rollout statistics of one model, all tasks in one process."""
    input:
        unpack(parents("evaluate")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/evaluate/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/evaluate/{node}/seed{seed}.log",
    conda:
        "../envs/eval.yaml"
    threads: ask("evaluate", "cpus")
    resources:
        gpu=ask("evaluate", "gpu"),
        mem_mb=ask("evaluate", "mem_mb"),
        runtime=ask("evaluate", "runtime"),
    params:
        cfg=job_config("evaluate"),
        code=job_code("evaluate"),
    message:
        "evaluate: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm evaluate --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
