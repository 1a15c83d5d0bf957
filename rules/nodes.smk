"""A rule for each kind of node: one step, made into a job a node and seed. In what they differ, the kinds say."""

for kind, says in KINDS.items():

    rule:
        name:
            kind
        input:
            unpack(read_by(kind)),
        output:
            manifest=update(f"<results>/{{paper}}/{kind}/{{node}}/seed{{seed}}/manifest.json"),
        log:
            f"<logs>/{{paper}}/{kind}/{{node}}/seed{{seed}}.log",
        localrule: says.LOCAL
        conda:
            f"../envs/{says.ENV}.yaml"
        threads: ask(kind, "cpus")
        resources:
            nodes=ask(kind, "nodes"),
            gpu=ask(kind, "gpu"),
            processes=processes(kind),
            mem_mb=ask(kind, "mem_mb"),
            runtime=ask(kind, "runtime"),
        params:
            step=kind,
            cfg=job_config(kind),
            code=job_code(kind),
        message:
            "{rule}: {wildcards.paper}/{wildcards.node} seed {wildcards.seed}"
        shell:
            r"""
            export OMP_NUM_THREADS={threads} DISTILLERY_MACHINES={resources.nodes}x{resources.gpu}
            exec python -m opd_steps.process.warm {params.step} --processes {resources.processes} --config {params.cfg:q} --code {params.code:q} --out {output.manifest:q} >>{log:q} 2>&1
            """

    workflow.get_rule(kind).docstring = says.__doc__.splitlines()[0]
