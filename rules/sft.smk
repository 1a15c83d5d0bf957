"""Supervised fine-tuning."""


rule sft:
    """Supervised fine-tuning: cold start on traces, or the continued-SFT baseline."""
    input:
        unpack(parents("sft")),
        preflight=preflight,
    output:
        manifest=update("<results>/{paper}/sft/{node}/seed{seed}/manifest.json"),
    log:
        "<logs>/{paper}/sft/{node}/seed{seed}.log",
    conda:
        "../envs/train.yaml"
    threads: ask("sft", "cpus")
    resources:
        gpu=ask("sft", "gpu"),
        processes=processes("sft"),
        mem_mb=ask("sft", "mem_mb"),
        runtime=ask("sft", "runtime"),
    params:
        cfg=job_config("sft"),
        code=job_code("sft"),
    message:
        "sft: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
    shell:
        r"""
        export OMP_NUM_THREADS={threads}
        exec python -m opd_steps.process.warm sft --processes {resources.processes} --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
        """
