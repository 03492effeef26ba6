"""What an instance's notebook gets beside its flow's own cells: table, config, variables.

A change of what the two code cells do raises the version of `config` in `rules`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count

from ductaflow.errors import ConfigError
from ductaflow.flows.parameterscell import require_parameters
from ductaflow.flows.syntax import language
from ductaflow.model.flows import Cell, Flow, Tag
from ductaflow.model.plans import Config, Note
from ductaflow.plans.configtable import config_table
from ductaflow.plans.languages import TRANSLATORS
from ductaflow.plans.literal import to_python
from ductaflow.plans.parameters import left_alone, read_defaults
from ductaflow.plans.variables import flatten_source
from ductaflow.secrets.references import expression, sources

MAX_LITERAL = 100_000
"""Characters of a config that is written as Python; of a longer one IPython looks at each token."""


def prepare(flow: Flow, config: Config | None, notes: Sequence[Note] = ()) -> tuple[Cell, ...]:
    """The cells of one instance: the flow's own with the config's put in place.

    Args:
        flow: The flow.
        config: The normalised config; None leaves the flow as it is.
        notes: What the table at the top should also tell.

    Returns:
        A table of the config at the top, then the flow's cells, the injected config and the
        cell that makes variables of it following the parameters cell, both in the flow's
        language. In one that is not known here a flow reads `config.json` itself.

    Raises:
        ParametersCellError: The flow has no parameters cell, or more than one.
        ConfigError: The flow's language cannot hold a value.
    """
    if config is None:
        return flow.cells
    table = _inserted(flow, "markdown", config_table(config, notes), Tag.CONFIG_TABLE)
    sources = _sources(flow, config)
    if sources is None:
        return (table, *flow.cells)
    after = require_parameters(flow) + 1
    injected = _inserted(flow, "code", sources[0], Tag.INJECTED)
    flattening = _inserted(flow, "code", sources[1], Tag.FLATTEN)
    return (table, *flow.cells[:after], injected, flattening, *flow.cells[after:])


def _sources(flow: Flow, config: Config) -> tuple[str, str] | None:
    """The sources of the two code cells; None for a language that is not known here."""
    if language(flow) == "python":
        known = read_defaults(flow)
        source = flatten_source(config, left_alone(known.own, config))
        if known.is_parameter and "config" in config:
            source += '\nconfig = config["config"]'  # the flow's own meaning of the name
        return config_source(config), source
    if (held := next(sources(config), None)) is not None:
        raise ConfigError(
            f"{flow.path} is in {language(flow)}, and its config has the secret {held!r}; only "
            "Python flows are given secrets"
        )
    translator = TRANSLATORS.get(language(flow))
    if translator is None:
        return None
    return translator.config_source(config), translator.flatten_source(config)


def _inserted(flow: Flow, kind: str, source: str, tag: str) -> Cell:
    taken = {cell.id for cell in flow.cells}
    ids = chain([tag], (f"{tag}-{n}" for n in count(2)))
    cell_id = next(i for i in ids if i not in taken)
    return Cell(kind=kind, source=source, id=cell_id, metadata={"tags": [tag]})


# --- the two code cells ----------------------------------------------------------------------


def config_source(config: Config) -> str:
    """Source of the injected cell."""
    text = to_python(config, expression)
    if len(text) > MAX_LITERAL and not any(sources(config)):
        data = json.dumps(config).replace("'", "\\u0027")  # it stands only in strings
        text = f"__import__('json').loads(r'''{data}''')"
    return f"# This instance's config, in place of the default above.\nconfig = {text}"
