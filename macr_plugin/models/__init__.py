"""Model classes for BasicSR's ``model_type``."""

# First of all: the import hook registers the model classes when BasicSR's import ends, which must not happen while one
# of their modules is half imported.
import basicsr  # noqa: F401
