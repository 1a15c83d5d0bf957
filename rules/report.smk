"""The report: curves, tables, claims with verdicts, and where every number comes from."""


localrules:
    report,


rule report:
    """Static HTML that opens offline: one page of a paper alone, of several an overview with a page for each; and the claims as JSON."""
    input:
        plan=rules.outline.output.plan,
        manifests=flow.gathered(),
        words=flow.REPORT_FILES,
    output:
        claims=update("<results>/report/claims.json"),  # says what all are made of, and vouches for each page
        html=update("<results>/report/index.html"),
    log:
        "<logs>/report.log",
    conda:
        "../envs/track.yaml"
    params:
        code=flow.step_code("report"),
        results=subpath(output.html, ancestor=2),
    message:
        "report: {output.html}"
    shell:
        r"""
        exec python -m opd_steps.steps.report --plan {input.plan:q} --results {params.results:q} --template workflow/report --code {params.code:q} --inputs {input:q} --out {output.html:q} >{log:q} 2>&1
        """
