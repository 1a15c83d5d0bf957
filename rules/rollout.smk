"""Rollouts as files."""


rule rollout:
    """Samples of a policy as a table, optionally only the correct ones."""
    input:
        unpack(parents("rollout")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/rollout/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/rollout/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("rollout", "cpus")
    resources:
        gpu=ask("rollout", "gpu"),
        mem_mb=ask("rollout", "mem_mb"),
        runtime=ask("rollout", "runtime"),
    params:
        cfg=job_config("rollout"),
        code=job_code("rollout"),
    message:
        "rollout: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm rollout --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
