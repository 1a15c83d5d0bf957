"""Reinforcement learning."""


rule rl:
    """Teacher RL with verifiable rewards: GRPO, Dr.GRPO, DAPO."""
    input:
        unpack(parents("rl")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/rl/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/rl/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("rl", "cpus")
    resources:
        gpu=ask("rl", "gpu"),
        processes=processes("rl"),
        mem_mb=ask("rl", "mem_mb"),
        runtime=ask("rl", "runtime"),
    params:
        cfg=job_config("rl"),
        code=job_code("rl"),
    message:
        "rl: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm rl --processes {resources.processes} --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
