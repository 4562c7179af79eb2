"""All patches together."""

import os

import basicsr.test
import basicsr.train
from basicsr.utils import options

from macr_plugin.basicsr_compat import program
from macr_plugin.training_program import patch_this_program


def test_patching_reaches_the_script_and_happens_once():
    stock = options.parse_options
    patch_this_program()
    patched = options.parse_options
    assert patched.__wrapped__ is stock
    assert basicsr.train.parse_options is basicsr.test.parse_options is patched
    assert os.environ[program.TRAINING_PROCESS_VARIABLE] == str(os.getpid())
    patch_this_program()
    assert options.parse_options is patched
