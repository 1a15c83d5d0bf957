"""Models as files and as policies."""

from transformers import utils

# transformers imports scikit-learn with every model class, for assisted decoding alone, which is not used here: a fifth of a step's start-up
utils.is_sklearn_available = lambda: False
