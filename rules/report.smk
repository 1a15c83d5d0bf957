"""The report: curves, tables, claims with verdicts, and where every number comes from."""


localrules:
    report,


rule report:
    """One static HTML file that opens offline, and the claims as JSON."""
    input:
        plan=rules.plan.output.plan,
        manifests=manifests(),
        template="workflow/report/index.html.j2",
        captions="workflow/report/captions.yaml",
    output:
        html="<results>/report/index.html",
        claims="<results>/report/claims.json",
    log:
        "<logs>/report.log",
    params:
        code=flow.step_code("report"),
        results="<results>",
    conda:
        "../envs/track.yaml"
    message:
        "report: {output.html}"
    shell:
        r"""
        exec python -m opd_steps.steps.report --plan {input.plan:q} --results {params.results:q} --template workflow/report --out {output.html:q} > {log:q} 2>&1
        """
