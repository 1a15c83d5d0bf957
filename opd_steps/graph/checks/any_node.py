"""What typed options cannot say: combinations within a node, and files that must exist, refused before any job starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.scalars import shown
from opd_steps.config.teachers import engines
from opd_steps.errors import UserError
from opd_steps.graph.checks.apart import check_apart
from opd_steps.graph.checks.engines import check_engine
from opd_steps.graph.checks.families import check_families
from opd_steps.graph.checks.fits import check_fits
from opd_steps.graph.checks.hooks import check_hooks
from opd_steps.graph.checks.machines import check_machines
from opd_steps.graph.checks.milestones import check_milestones
from opd_steps.graph.checks.numerics import check_numerics
from opd_steps.graph.checks.processes import check_processes
from opd_steps.graph.checks.stops import check_stops
from opd_steps.graph.checks.trainers import by_verl, check_trainer
from opd_steps.graph.checks.tune import check_tune
from opd_steps.store.sources import is_there

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_node(node: GraphNode, where: str) -> None:
    """Raises UserError for what cannot run."""
    for key, engine in engines(node.options).items():
        check_engine(engine, f"{where}.{key}", by_verl(node.options), node.options["resources"]["gpu"] > 0)
    check_processes(node, where)
    check_machines(node, where)
    check_numerics(node, where)
    check_families(node, where)
    check_stops(node, where)
    check_apart(node, where)
    if node.says.TRAINS:
        check_milestones(node, where)
        check_hooks(node, where)
        check_tune(node, where)
    node.says.check(node, where)
    if node.says.TRAINS:
        check_trainer(node, where)
    for key, given in node.says.sources(node.options).items():
        if not given.path.strip():
            raise UserError(f"{where}.{key}", f"expected a path or a hub id, found {shown(given.path)}")
        if given.path.startswith((".", "/", "~")) and not is_there(given.path):
            raise UserError(f"{where}.{key}", f"no such file or folder: {given.path}")
    check_fits(node, where)
