"""All mends together."""

import os

import basicsr.test
import basicsr.train
from basicsr.utils import options

from macr_plugin.basicsr_compat import program
from macr_plugin.training_program import mend_this_program


def test_mending_reaches_the_script_and_happens_once():
    stock = options.parse_options
    mend_this_program()
    mended = options.parse_options
    assert mended.__wrapped__ is stock
    assert basicsr.train.parse_options is basicsr.test.parse_options is mended
    assert os.environ[program.TRAINING_PROCESS_VARIABLE] == str(os.getpid())
    mend_this_program()
    assert options.parse_options is mended
