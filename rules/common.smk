"""The graph of the chosen papers, and the functions through which the rules follow it. Imports no torch."""

from opd_steps.graph.kinds import KINDS

flow.start(workflow, config)


wildcard_constraints:
    paper=flow.papers(),
    node=r"\w+",
    seed=r"\d+",


def manifests(phase=""):
    """Input function: manifests of all wanted nodes whose kind belongs to this phase (all nodes if none is named), for all seeds.

    Not a list: beside rules.x.output Snakemake hashes a whole list again for every file in it.
    """
    return lambda wildcards: flow.manifests(phase)


def read_by(kind):
    """Input function: the manifests that a node reads, by role, and the preflight's report where it comes before."""

    def files(wildcards):
        checked = {"preflight": preflight(wildcards)} if KINDS[kind].CHECKED else {}
        return flow.parents(kind, wildcards) | checked

    return files


def job_config(kind):
    """Params function: canonical JSON of exactly what the job depends on."""
    return lambda wildcards: flow.job_config(kind, wildcards)


def job_code(kind):
    """Params function: hashes of the sources that the job runs, comments and docstrings left out."""
    return lambda wildcards: flow.job_code(kind, wildcards)


def ask(kind, resource):
    """Resource, or a function of the job: what the node's config asks of the executor."""
    return flow.ask(kind, resource)


def processes(kind):
    """Resource, or a function of the job: how many processes the node's step is."""
    return flow.processes(kind)


def preflight(wildcards):
    """Input function: tokenizers, EOS and templates of the paper's models fit (checked once, before any training)."""
    return ancient(f"<results>/{wildcards.paper}/preflight/seed{wildcards.seed}.json")
