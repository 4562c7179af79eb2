"""Makes the running program one that trains or tests as the plugin does: BasicSR's mends with the plugin's parts."""

from __future__ import annotations

from macr_plugin.basicsr_compat import mend_training_program
from macr_plugin.data.drawn_index import DrawnIndex
from macr_plugin.data.lmdb_environments import lmdb_environments
from macr_plugin.option_check import check_options
from macr_plugin.option_file import read_options


def mend_this_program() -> None:
    """Apply every mend that training and testing need; does nothing when called again."""
    mend_training_program(read_options, check_options, DrawnIndex, lmdb_environments())
